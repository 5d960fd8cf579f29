"""The dashboards, one file each; what they are made of is in `panels`."""
