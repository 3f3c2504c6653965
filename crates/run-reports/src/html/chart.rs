//! A line chart as SVG: a scale, polylines and marks. Colours come from the page's style.

use super::words::{Words, escaped, number};
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
/// Space for labels: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (68.0, 26.0, 12.0, 34.0);
/// A line has no more points than twice this. What is between is not seen at the chart's width.
const MOST_BUCKETS: usize = 600;
/// More vertical lines than this would hide the curves.
pub(super) const MOST_REFRESHES: usize = 80;

/// One curve. A value that is not finite is a gap, with a mark at the top.
pub(super) struct Series {
    /// Its name in the legend, as HTML.
    pub(super) label: String,
    /// Which of the page's colours it has.
    pub(super) colour: usize,
    /// Few points, each with a mark and a tooltip, on a dashed line.
    pub(super) is_marked: bool,
    /// Steps and values.
    pub(super) points: Vec<(u64, f64)>,
}

/// Curves over steps.
pub(super) struct Chart {
    pub(super) title: Words,
    pub(super) series: Vec<Series>,
    /// Steps with a vertical line.
    pub(super) refreshes: Vec<u64>,
    /// Steps with a mark on the axis.
    pub(super) saves: Vec<u64>,
    /// Points with a ring.
    pub(super) best: Vec<(u64, f64)>,
}

/// A straight map from values to places.
struct Scale {
    values: (f64, f64),
    places: (f64, f64),
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let (from, to) = self.values;
        self.places.0 + (value - from) / (to - from) * (self.places.1 - self.places.0)
    }

    /// Round values, about `count` of them.
    fn ticks(&self, count: f64) -> Vec<f64> {
        let rough = (self.values.1 - self.values.0) / count;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let (first, last) = ((self.values.0 / step).ceil() as i64, (self.values.1 / step).floor() as i64);
        (first..=last.min(first + 50)).map(|index| index as f64 * step).collect()
    }
}

impl Chart {
    /// Whether there is anything to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.iter().all(|(_, value)| !value.is_finite()))
    }

    /// The chart with title and legend, as HTML.
    pub(super) fn html(&self) -> String {
        let mut html = format!("<figure><figcaption><h3>{}</h3><ul class=\"legend\">", self.title.html());
        for Series { label, colour, is_marked, .. } in &self.series {
            let dashed = if *is_marked { " marked" } else { "" };
            let _ = write!(html, "<li><i class=\"key c{colour}{dashed}\"></i>{label}</li>");
        }
        html += "</ul></figcaption>";
        html += &self.svg();
        html + "</figure>\n"
    }

    fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let finite = points().map(|point| point.1).filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        // A flat curve lies in the middle.
        let room = if high > low { (high - low) * 0.05 } else { (high.abs() * 0.1).max(1e-9) };
        let last = points().map(|point| point.0).max().unwrap_or(1).max(1);
        let (left, right, top, bottom) = MARGIN;
        let x = Scale { values: (0.0, last as f64), places: (left, WIDTH - right) };
        let y = Scale { values: (low - room, high + room), places: (HEIGHT - bottom, top) };

        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", self.title.0);
        self.draw_axes(&mut svg, &x, &y);
        for Series { colour, is_marked, points, .. } in &self.series {
            let class = format!("c{colour}{}", if *is_marked { " marked" } else { "" });
            for line in thinned(points).split(|point| !point.1.is_finite()).filter(|line| !line.is_empty()) {
                let places: Vec<String> = line.iter().map(|(step, v)| place(&x, &y, *step, *v)).collect();
                // A line of one point would not be seen.
                let lone = if places.len() == 1 { format!(" {}", places[0]) } else { String::new() };
                let _ = write!(svg, "<polyline class=\"{class}\" points=\"{}{lone}\"/>", places.join(" "));
            }
            for (step, _) in points.iter().filter(|point| !point.1.is_finite()) {
                let _ = write!(
                    svg,
                    "<text class=\"bad\" x=\"{:.1}\" y=\"22\">×<title>{step}: NaN</title></text>",
                    x.at(*step as f64)
                );
            }
            for (step, value) in points.iter().filter(|point| *is_marked && point.1.is_finite()) {
                let (cx, cy) = (x.at(*step as f64), y.at(*value));
                let title = format!("{}: {}", escaped(&step.to_string()), number(*value));
                let _ = write!(
                    svg,
                    "<circle class=\"{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"><title>{title}</title></circle>"
                );
            }
        }
        for (step, value) in self.best.iter().filter(|point| point.1.is_finite()) {
            let (cx, cy) = (x.at(*step as f64), y.at(*value));
            let _ = write!(svg, "<circle class=\"best\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"7\"/>");
        }
        svg + "</svg>"
    }

    fn draw_axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (left, right, top, bottom) = MARGIN;
        let floor = HEIGHT - bottom;
        for tick in y.ticks(5.0) {
            let at = y.at(tick);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>",
                WIDTH - right,
                left - 8.0,
                at + 4.0,
                number(tick)
            );
        }
        for tick in x.ticks(6.0).into_iter().filter(|tick| tick.fract() == 0.0) {
            let _ =
                write!(svg, "<text class=\"x\" x=\"{:.1}\" y=\"{}\">{}</text>", x.at(tick), floor + 24.0, number(tick));
        }
        for step in self.refreshes.iter().take(MOST_REFRESHES) {
            let at = x.at(*step as f64);
            let _ = write!(svg, "<line class=\"refresh\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{floor}\"/>");
        }
        let _ =
            write!(svg, "<line class=\"axis\" x1=\"{left}\" x2=\"{}\" y1=\"{floor}\" y2=\"{floor}\"/>", WIDTH - right);
        for step in &self.saves {
            let at = x.at(*step as f64);
            let _ = write!(
                svg,
                "<path class=\"save\" d=\"M{at:.1} {:.1}l4 7h-8z\"><title>checkpoint-{step}</title></path>",
                floor + 2.0
            );
        }
    }
}

fn place(x: &Scale, y: &Scale, step: u64, value: f64) -> String {
    format!("{:.1},{:.1}", x.at(step as f64), y.at(value))
}

/// The lowest and the highest point of each of many parts, so that no spike is lost, and the gaps.
fn thinned(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    if points.len() <= 2 * MOST_BUCKETS {
        return points.to_vec();
    }
    let mut kept = Vec::new();
    for part in points.chunks(points.len().div_ceil(MOST_BUCKETS)) {
        let mut extremes = vec![0; 2];
        for (index, point) in part.iter().enumerate() {
            if point.1 < part[extremes[0]].1 {
                extremes[0] = index;
            }
            if point.1 > part[extremes[1]].1 {
                extremes[1] = index;
            }
        }
        extremes.extend(part.iter().position(|point| !point.1.is_finite()));
        extremes.sort_unstable();
        extremes.dedup();
        kept.extend(extremes.into_iter().map(|index| part[index]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_scale() {
        let scale = |from, to| Scale { values: (from, to), places: (0.0, 1.0) };
        assert_eq!(scale(0.0, 10.0).ticks(5.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(scale(1.2, 3.3).ticks(5.0), [1.5, 2.0, 2.5, 3.0]);
        assert_eq!(scale(0.0, 540.0).ticks(6.0), [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]);
    }

    #[test]
    fn a_long_line_keeps_its_spikes_and_gaps() {
        let mut points: Vec<(u64, f64)> = (0..100_000).map(|step| (step, 1.0)).collect();
        points[54_321].1 = 9.0;
        points[77_777].1 = f64::NAN;
        let kept = thinned(&points);
        assert!(kept.len() <= 3 * MOST_BUCKETS, "{}", kept.len());
        assert!(kept.contains(&(54_321, 9.0)) && kept.iter().any(|point| point.1.is_nan()));
    }
}
