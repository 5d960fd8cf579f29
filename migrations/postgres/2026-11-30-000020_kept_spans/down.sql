DROP TABLE kept_spans;
