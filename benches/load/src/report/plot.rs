//! Charts: throughput, percentiles, slowdowns over time and by user; one way to draw them, as PNG and as SVG.
//!
//! Logarithms are taken before drawing, and the labels say the values. The letters come with the binary, so that a
//! machine without fonts draws the same.

use std::path::Path;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::Measured;
use crate::Error;
use crate::alone::Alone;
use crate::analyst::Outcome;
use crate::mix::{Kind, Query};
use crate::numbers;

const SIZE: (u32, u32) = (1_100, 520);
const COLORS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(110, 110, 110),
];

/// A chart.
pub struct Chart {
    /// Name of its file.
    pub name: &'static str,
    title: String,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
}

struct Axis {
    title: &'static str,
    /// From a drawn number to its label.
    label: fn(f64) -> String,
}

struct Series {
    name: String,
    lines: bool,
    points: Vec<(f64, f64)>,
}

const PLAIN: fn(f64) -> String = |value| format!("{value:.0}");
const TENTHS: fn(f64) -> String = |value| format!("{value:.1}");
const POWER: fn(f64) -> String = |value| match 10_f64.powf(value) {
    value if value < 10.0 => format!("{value:.1}"),
    value => format!("{value:.0}"),
};
const PERCENTILE: fn(f64) -> String = |value| {
    // Only 0 %, 90 %, 99 % and so on: between them the numbers are not round.
    let nines = value.round();
    if (value - nines).abs() > 1e-6 {
        return String::new();
    }
    format!("{:.*} %", (nines - 2.0).max(0.0) as usize, 100.0 - 100.0 / 10_f64.powf(nines))
};

/// Every chart that the phases have something for.
pub fn charts(measured: &[Measured<'_>], queries: &[Query], alone: &[Alone]) -> Vec<Chart> {
    let mut charts = vec![throughput(measured)];
    if let Some(one) = measured.iter().find(|one| one.phase.name == "open") {
        charts.extend([percentiles(one), over_time(one, queries, alone), users(one)]);
    }
    charts.retain(|chart| chart.series.iter().any(|series| !series.points.is_empty()));
    charts
}

fn throughput(measured: &[Measured<'_>]) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    for one in measured.iter().filter(|one| one.phase.name != "open") {
        let point = (one.phase.load.analysts as f64, one.numbers.per_minute);
        match series.iter_mut().find(|series| series.name == one.phase.system) {
            Some(series) => series.points.push(point),
            None => {
                let (name, lines) = (one.phase.system.to_string(), one.phase.name == "closed");
                series.push(Series { name, lines, points: vec![point] });
            }
        }
    }
    let ours =
        series.iter().find(|series| series.lines).map(|series| series.points.clone()).unwrap_or_default();
    let best = ours.iter().map(|point| point.1).fold(0.0, f64::max);
    let last = ours.iter().map(|point| point.0).fold(0.0, f64::max);
    let floor = vec![(0.0, best * 0.95), (last, best * 0.95)];
    series.push(Series { name: "0.95 of the best".to_string(), lines: true, points: floor });
    Chart {
        name: "throughput",
        title: "Closed loop: right answers a minute".to_string(),
        x: Axis { title: "analysts", label: PLAIN },
        y: Axis { title: "queries a minute", label: PLAIN },
        series,
    }
}

fn percentiles(one: &Measured<'_>) -> Chart {
    let numbers = &one.numbers;
    let of = [
        ("dashboard", &numbers.dashboard.latency),
        ("ad-hoc", &numbers.adhoc.latency),
        ("SELECT 1", &numbers.probe),
    ];
    let series = of.map(|(name, histogram)| {
        let steps = histogram.iter_quantiles(5).filter(|step| step.quantile() < 1.0);
        let points = steps.map(|step| {
            let milliseconds = (step.value_iterated_to() as f64 / 1_000.0).max(0.1);
            (-(1.0 - step.quantile()).log10(), milliseconds.log10())
        });
        Series { name: name.to_string(), lines: true, points: points.collect() }
    });
    Chart {
        name: "percentiles",
        title: format!("Open loop, {} analysts: time to the last row", one.phase.load.analysts),
        x: Axis { title: "percentile", label: PERCENTILE },
        y: Axis { title: "milliseconds", label: POWER },
        series: series.into(),
    }
}

fn over_time(one: &Measured<'_>, queries: &[Query], alone: &[Alone]) -> Chart {
    let series = [("dashboard", Kind::Dashboard), ("ad-hoc", Kind::AdHoc)].map(|(name, kind)| {
        let asked =
            one.phase.seen.samples.iter().filter(|sample| {
                queries[sample.query].kind == kind && matches!(sample.outcome, Outcome::Right)
            });
        let points = asked.filter_map(|sample| {
            let base = alone.get(sample.query)?.median?;
            let slowdown = numbers::latency(sample).as_secs_f64() / base;
            Some((sample.due.as_secs_f64(), slowdown.max(0.01).log10()))
        });
        Series { name: name.to_string(), lines: false, points: points.collect() }
    });
    Chart {
        name: "slowdown",
        title: "Open loop: time over the time alone".to_string(),
        x: Axis { title: "seconds since the start", label: PLAIN },
        y: Axis { title: "times slower", label: POWER },
        series: series.into(),
    }
}

fn users(one: &Measured<'_>) -> Chart {
    let users = &one.numbers.users;
    let median = one.numbers.fairness().map_or(0.0, |(median, _, _)| median);
    let last = users.len().saturating_sub(1) as f64;
    let level = |name: &str, value: f64| Series {
        name: name.to_string(),
        lines: true,
        points: vec![(0.0, value), (last, value)],
    };
    let points = users.iter().enumerate().map(|(user, slowdown)| (user as f64, *slowdown)).collect();
    Chart {
        name: "users",
        title: "Open loop: mean slowdown of each user".to_string(),
        x: Axis { title: "user", label: PLAIN },
        y: Axis { title: "times slower", label: TENTHS },
        series: vec![
            Series { name: "users".to_string(), lines: false, points },
            level("the median user", median),
            level("1.5 of it", median * 1.5),
            level("it by 1.5", median / 1.5),
        ],
    }
}

impl Chart {
    /// Into a file.
    pub fn png(&self, path: &Path) -> Result<(), Error> {
        self.draw(BitMapBackend::new(path, SIZE).into_drawing_area())
    }

    /// As text.
    pub fn svg(&self) -> Result<String, Error> {
        let mut text = String::new();
        self.draw(SVGBackend::with_string(&mut text, SIZE).into_drawing_area())?;
        Ok(text)
    }

    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>) -> Result<(), Error>
    where
        B::ErrorType: 'static,
    {
        letters()?;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let range = |of: fn(&(f64, f64)) -> f64| {
            let low = points().map(of).fold(f64::INFINITY, f64::min).min(0.0);
            let high = points().map(of).fold(f64::NEG_INFINITY, f64::max);
            low..high.max(low + 0.1) * 1.05
        };
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(45)
            .y_label_area_size(70)
            .build_cartesian_2d(range(|point| point.0), range(|point| point.1))?;
        chart
            .configure_mesh()
            .x_desc(self.x.title)
            .y_desc(self.y.title)
            .x_label_formatter(&|value| (self.x.label)(*value))
            .y_label_formatter(&|value| (self.y.label)(*value))
            .label_style(("sans-serif", 15))
            .light_line_style(WHITE)
            .draw()?;
        for (series, color) in self.series.iter().zip(COLORS.iter().cycle()) {
            let style = color.stroke_width(2);
            let drawn = match series.lines {
                true => chart.draw_series(LineSeries::new(series.points.iter().copied(), style))?,
                false => {
                    let circles = series.points.iter().map(|point| Circle::new(*point, 3, color.filled()));
                    chart.draw_series(circles)?
                }
            };
            drawn
                .label(&series.name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 14, y + 4)], color.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 15))
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()?;
        Ok(area.present()?)
    }
}

/// Makes the letters known, once.
fn letters() -> Result<(), Error> {
    static ONCE: Once = Once::new();
    let mut registered = Ok(());
    ONCE.call_once(|| {
        registered = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| "the font of the plots cannot be read".into());
    });
    registered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_are_drawn_without_fonts_of_the_machine() {
        let chart = Chart {
            name: "test",
            title: "Test".to_string(),
            x: Axis { title: "x", label: PERCENTILE },
            y: Axis { title: "y", label: POWER },
            series: vec![
                Series { name: "line".to_string(), lines: true, points: vec![(0.0, 1.0), (3.0, 2.5)] },
                Series { name: "dots".to_string(), lines: false, points: vec![(1.0, -1.0)] },
            ],
        };
        let folder = tempfile::tempdir().unwrap();
        chart.png(&folder.path().join("test.png")).unwrap();
        assert!(chart.svg().unwrap().contains("99.9"));
    }
}
