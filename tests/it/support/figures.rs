//! The metrics page as figures by series; series are named without their common beginning.

use std::collections::BTreeMap;

use super::Api;

/// The page of one moment.
#[derive(Clone, Debug)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads the page of a server.
    pub fn of(api: &Api) -> Self {
        let page = api.get("/metrics").expect(200).text();
        let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let figure = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let name = series.strip_prefix("iot_meter_").unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|e| panic!("{line}: {e}")))
        };
        Self(lines.map(figure).collect())
    }

    /// The value of a series, if there is one.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The value of a series that must be there.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_else(|| panic!("there is no {series}"))
    }

    /// The value of a series; 0 while there is none.
    pub fn or_zero(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_default()
    }

    /// All series of a name added up, whatever their labels.
    #[allow(dead_code)] // by tests of a feature
    pub fn sum(&self, name: &str) -> f64 {
        self.all().filter(|(series, _)| series.split('{').next() == Some(name)).map(|(_, value)| value).sum()
    }

    /// Fails unless a counter is up by `by` or more. (In this process other tests count too.)
    #[track_caller]
    pub fn grown(&self, since: &Self, series: &str, by: f64) {
        let (from, to) = (since.or_zero(series), self.value(series));
        assert!(to >= from + by, "{series}: {from} → {to}, not {by} more");
    }

    /// Whether these series have these values.
    pub fn are(&self, expected: &[(&str, f64)]) -> bool {
        expected.iter().all(|(series, value)| self.get(series) == Some(*value))
    }

    /// All series with their values.
    pub fn all(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(series, value)| (series.as_str(), *value))
    }
}
