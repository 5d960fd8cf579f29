// Azurite's blob service, which ends with who has started it: when its standard input does.
process.stdin.resume().on("end", () => process.exit());
require("azurite/dist/src/blob/main.js");
