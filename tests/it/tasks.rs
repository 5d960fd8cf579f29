//! The Makefile, the workflows and the tests agree: a workflow runs tasks of the Makefile, and no test that a feature switches on is
//! left out where the features are on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::deploy::{after, read, root, texts};

/// What the steps of a workflow run, each as one line, also where it is written over several.
fn runs(workflow: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = workflow.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let is_comment = line.trim_start().starts_with('#');
        let Some((before, run)) = line.split_once("run: ").filter(|_| !is_comment) else { continue };
        let mut parts = Vec::new();
        while let Some(next) = lines.next_if(|next| next.trim().is_empty() || indent(next) > before.len()) {
            parts.push(next.trim());
        }
        match run.trim() {
            // Folded: one command. Literal: a command a line.
            ">-" | ">" => found.push(parts.join(" ").trim().to_owned()),
            "|-" | "|" => found.extend(parts.iter().filter(|part| !part.is_empty()).map(|part| (*part).to_owned())),
            run => found.push(std::iter::once(run).chain(parts).collect::<Vec<_>>().join(" ").trim().to_owned()),
        }
    }
    found
}

#[test]
fn steps_are_read_however_they_are_written() {
    let workflow = "steps:\n  - run: make a\n  # run: not this\n  - run: >-\n      one\n      two\n  - run: |\n      three\n      four\n\n  - name: x\n    run: make b\n    env: {A: b}\n";
    assert_eq!(runs(workflow), ["make a", "one two", "three", "four", "make b"]);
}

#[test]
fn every_step_of_the_workflows_is_a_task_of_the_makefile_or_makes_the_machine_ready() {
    let makefile = read("Makefile");
    let is_task =
        |name: &str| makefile.lines().any(|line| line.starts_with(&format!("{name}: ")) && line.contains(" ## "));
    let makes_ready =
        ["sudo apt-get update && ", "rustup toolchain install ", "cargo install --locked ", "install -D -m 600 "];
    let mut count = 0;
    for (file, text) in texts(".github/workflows") {
        for run in runs(&text) {
            let task = run.split("make ").nth(1).map(|rest| rest.trim_start_matches("--silent "));
            let task = task.map(|rest| rest.split([' ', ')']).next().unwrap());
            match task {
                Some(task) => assert!(is_task(task), "{file}: {run}: the Makefile has no {task}"),
                None if run == "\"true\"" => {}
                None => assert!(makes_ready.iter().any(|start| run.starts_with(start)), "{file}: {run}"),
            }
            count += usize::from(task.is_some());
        }
        // What others have written is named by its content, and nobody may more than he needs.
        for action in after(&text, "uses: ", |c| c != '\n').into_iter().filter(|action| !action.starts_with("./")) {
            let hash = action.split(['@', ' ']).nth(1).unwrap_or_default();
            assert!(
                hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
                "{file}: {action} may be anything"
            );
        }
        assert!(text.contains("\npermissions:\n  contents: read\n"), "{file}: may more than read by default");
    }
    assert!(count > 15, "only {count} tasks were found");
    // What is checked there is checked here.
    let ci = read(".github/workflows/ci.yml");
    let here = makefile.lines().find(|line| line.starts_with("ci: ")).unwrap().split(" ## ").next().unwrap();
    let apart = ["advisories", "coverage", "deb", "deb-test"];
    let tasks = runs(&ci).into_iter().filter_map(|run| Some(run.strip_prefix("make ")?.to_owned()));
    for task in tasks.filter(|task| !apart.contains(&task.as_str())) {
        assert!(here.split(' ').any(|word| word == task), "`make ci` leaves {task} out");
    }
}

/// Features that a default build lacks, as a condition names them.
const EXTRA: [&str; 7] = ["postgres", "s3", "s3-tests", "azure", "gcs", "ops-tests", "otel"];

/// Whether what stands behind this attribute is only there with features that a default build lacks.
fn is_extra(attribute: &str) -> bool {
    let names = |feature: &str| attribute.contains(&format!("feature = \"{feature}\""));
    let is_any = attribute.contains("any(") && names("sqlite");
    attribute.starts_with("#[cfg(") && !attribute.contains("not(") && !is_any && EXTRA.into_iter().any(names)
}

/// The tests below a file that only extra features bring, by the names the test runner has for them.
fn extra_tests(file: &Path, module: &str, is_gated: bool) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let dir = file.parent().unwrap();
    // `main.rs`, `lib.rs` and `mod.rs` have their modules beside them, others in a folder of their name.
    let is_front = ["main", "lib", "mod"].contains(&file.file_stem().unwrap().to_str().unwrap());
    let below = if is_front { dir.to_owned() } else { file.with_extension("") };
    let inside = |name: &str| if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") };
    let (mut found, mut within, mut within_gated) = (Vec::new(), module.to_owned(), is_gated);
    let (mut gate, mut is_test, mut path) = (false, false, None::<PathBuf>);
    for line in text.lines().map(str::trim) {
        let item = ["pub(crate) ", "pub(super) ", "pub "].iter().find_map(|p| line.strip_prefix(p)).unwrap_or(line);
        let item = item.strip_prefix("async ").unwrap_or(item);
        if line.starts_with("#[") {
            gate |= is_extra(line);
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test") || line.starts_with("#[actix_web::test");
            path = line.strip_prefix("#[path = \"").map(|rest| dir.join(rest.split('"').next().unwrap())).or(path);
            continue;
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        if let Some(name) = item.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            let places = [below.join(format!("{name}.rs")), below.join(name).join("mod.rs")];
            let file = path.take().or_else(|| places.into_iter().find(|place| place.exists()));
            let file = file.unwrap_or_else(|| panic!("{}: where is {name}?", file_name(module)));
            found.extend(extra_tests(&file, &inside(name), is_gated || gate));
        } else if let Some(name) = item.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            (within, within_gated) = (inside(name), is_gated || gate);
        } else if let Some(name) = item.strip_prefix("fn ").filter(|_| is_test && (within_gated || gate)) {
            found.push(format!("{within}::{}", name.split(['(', '<']).next().unwrap()));
        }
        (gate, is_test, path) = (false, false, None);
    }
    found
}

fn file_name(module: &str) -> &str {
    if module.is_empty() { "the root" } else { module }
}

/// What a task's recipe gives the test runner of a target (`--lib`, `--test it`) as names to run.
fn filters(recipe: &str, target: &str) -> Vec<String> {
    let commands = recipe.replace("\\\n", " ");
    let of_target = commands.lines().filter(|line| line.contains(target) && line.contains(" -- "));
    of_target.flat_map(|line| line.split(" -- ").nth(1).unwrap().split_whitespace()).map(str::to_owned).collect()
}

#[test]
fn what_only_features_have_is_run_where_they_are_on() {
    let makefile = read("Makefile");
    let recipe = makefile.split("\ntest-extra: ").nth(1).unwrap().split("\n\n").next().unwrap();
    for (target, file, at_least) in [("--lib ", "src/lib.rs", 20), ("--test it ", "tests/it/main.rs", 40)] {
        let (tests, filters) = (extra_tests(&root().join(file), "", false), filters(recipe, target));
        assert!(tests.len() >= at_least, "only {tests:?} were found in {file}");
        let is_run = |test: &&String| filters.iter().any(|filter| test.contains(filter.as_str()));
        let left_out: Vec<_> = tests.iter().filter(|test| !is_run(test)).collect();
        assert!(left_out.is_empty(), "`make test-extra` leaves out {left_out:#?}");
        let all = fs::read_to_string(root().join(file)).unwrap();
        for filter in &filters {
            let module = filter.split("::").next().unwrap();
            assert!(all.contains(&format!("mod {module};")), "`make test-extra` names {filter}, which is not there");
        }
    }
}

#[test]
fn conditions_of_features_are_understood() {
    let check = |attribute: &str, expected: bool| assert_eq!(is_extra(attribute), expected, "{attribute}");
    check("#[cfg(feature = \"postgres\")]", true);
    check("#[cfg(all(test, feature = \"otel\"))]", true);
    check("#[cfg(any(feature = \"sqlite\", feature = \"postgres\"))]", false);
    check("#[cfg(feature = \"sqlite\")]", false);
    check("#[cfg(not(feature = \"otel\"))]", false);
    check("#[cfg(test)]", false);
}
