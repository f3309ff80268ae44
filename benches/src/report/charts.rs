//! Charts as SVG, to stand inside the page.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::peers::{ARENAS, PEERS};
use crate::summary::is_ours;

/// One allocator's curve.
pub(crate) struct Curve<'a> {
    pub(crate) peer: &'a str,
    pub(crate) points: &'a [(f64, f64)],
}

/// How an axis counts and names its values.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) title: &'static str,
    pub(crate) scale: Scale,
    pub(crate) show: fn(f64) -> String,
}

#[derive(Clone, Copy)]
pub(crate) enum Scale {
    /// In units of so much, multiples of which the ticks stand at.
    Linear(f64),
    /// Each step is this many times the one before.
    Log(f64),
}

impl Scale {
    fn apply(self, value: f64) -> f64 {
        match self {
            Scale::Linear(unit) => value / unit,
            Scale::Log(base) => value.max(f64::MIN_POSITIVE).log(base),
        }
    }

    fn back(self, value: f64) -> f64 {
        match self {
            Scale::Linear(unit) => value * unit,
            Scale::Log(base) => base.powf(value),
        }
    }
}

/// Height of a name at a line's end.
const LABEL: i32 = 13;
const TEXT: RGBColor = RGBColor(60, 60, 60);
const LINES: RGBColor = RGBColor(225, 225, 225);

/// Every allocator, and every arena, has its colour in all charts.
fn color(peer: &str) -> RGBColor {
    const OTHERS: [RGBColor; 13] = [
        RGBColor(110, 110, 110),
        RGBColor(31, 119, 180),
        RGBColor(140, 190, 235),
        RGBColor(44, 160, 44),
        RGBColor(148, 103, 189),
        RGBColor(140, 86, 75),
        RGBColor(227, 119, 194),
        RGBColor(188, 189, 34),
        RGBColor(23, 190, 207),
        RGBColor(255, 187, 120),
        RGBColor(122, 153, 106),
        RGBColor(152, 223, 138),
        RGBColor(197, 176, 213),
    ];
    match peer {
        "arenite" => RGBColor(214, 39, 40),
        _ if is_ours(peer) => RGBColor(240, 130, 120),
        _ => {
            let mut others = PEERS.iter().chain(ARENAS).filter(|other| !is_ours(other.name));
            let at = others.position(|other| other.name == peer).unwrap_or(0);
            OTHERS[at % OTHERS.len()]
        }
    }
}

/// Lines for each allocator over the same axis; Arenite's lies on top.
pub(crate) fn curves(x: Axis, y: Axis, curves: &[Curve<'_>]) -> anyhow::Result<String> {
    let place = |&(a, b): &(f64, f64)| (x.scale.apply(a), y.scale.apply(b));
    let all: Vec<(f64, f64)> = curves.iter().flat_map(|curve| curve.points).map(place).collect();
    let ends = |pick: fn(&(f64, f64)) -> f64| {
        all.iter()
            .map(pick)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let ((left, right), (low, high)) = (ends(|point| point.0), ends(|point| point.1));
    let bottom = if matches!(y.scale, Scale::Linear(_)) { 0.0 } else { low.floor() };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (690, 440)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(110)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(
                left..right.max(left + 1e-9),
                bottom..(high + (high - bottom) * 0.04).max(bottom + 1e-9),
            )?;
        let (show_x, show_y) =
            (|at: &f64| (x.show)(x.scale.back(*at)), |at: &f64| (y.show)(y.scale.back(*at)));
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(LINES)
            .axis_style(TEXT)
            .x_desc(x.title)
            .y_desc(y.title)
            .x_label_formatter(&show_x)
            .y_label_formatter(&show_y)
            .label_style(("sans-serif", 13, &TEXT))
            .draw()?;
        let ours_last =
            curves.iter().filter(|c| !is_ours(c.peer)).chain(curves.iter().filter(|c| is_ours(c.peer)));
        let mut labels: Vec<(f64, &str)> = Vec::new();
        for curve in ours_last {
            let width = if is_ours(curve.peer) { 3 } else { 1 };
            let style = color(curve.peer).stroke_width(width);
            chart.draw_series(LineSeries::new(curve.points.iter().map(place), style))?;
            labels.extend(curve.points.last().map(|last| (y.scale.apply(last.1), curve.peer)));
        }
        // Names at the lines' ends, pushed apart where they would cover each other.
        labels.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (end, floor) = chart.backend_coord(&(right, bottom));
        let mut rows: Vec<i32> = labels.iter().map(|(at, _)| chart.backend_coord(&(right, *at)).1).collect();
        for at in 1..rows.len() {
            rows[at] = rows[at].max(rows[at - 1] + LABEL);
        }
        // Those that were pushed below the axis, up again.
        let mut limit = floor;
        for row in rows.iter_mut().rev() {
            *row = limit.min(*row);
            limit = *row - LABEL;
        }
        for ((_, peer), row) in labels.into_iter().zip(rows) {
            let color = color(peer);
            let style =
                ("sans-serif", 13, &color).into_text_style(&area).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw_text(peer, &style, (end + 6, row))?;
        }
        area.present()?;
    }
    Ok(inline(svg))
}

/// Bars with their values, the shortest on top. `limit`: longer ones are cut, their numbers tell.
pub(crate) fn bars(title: &str, values: &[(&str, f64, String)], limit: f64) -> anyhow::Result<String> {
    const ROW: i32 = 17;
    const NAME: i32 = 92;
    const WIDTH: i32 = 330;
    const NUMBER: i32 = 82;
    let mut values: Vec<_> = values.iter().collect();
    values.sort_by(|a, b| a.1.total_cmp(&b.1));
    let longest = values.iter().map(|value| value.1).fold(0.0, f64::max).min(limit);
    let height = 26 + ROW * values.len() as i32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        area.draw_text(title, &("sans-serif", 13, &BLACK).into_text_style(&area), (4, 3))?;
        for (row, (peer, value, number)) in values.into_iter().enumerate() {
            let top = 24 + ROW * row as i32;
            let text = |hpos| {
                let style = if is_ours(peer) { FontStyle::Bold } else { FontStyle::Normal };
                ("sans-serif", 12, style, &TEXT).into_text_style(&area).pos(Pos::new(hpos, VPos::Center))
            };
            area.draw_text(peer, &text(HPos::Right), (NAME - 6, top + ROW / 2))?;
            let length = (value.min(longest) / longest * f64::from(WIDTH - NAME - NUMBER)) as i32;
            let filled = color(peer).filled();
            area.draw(&Rectangle::new([(NAME, top + 2), (NAME + length.max(1), top + ROW - 2)], filled))?;
            let cut = if *value > longest { "» " } else { "" };
            area.draw_text(&format!("{cut}{number}"), &text(HPos::Left), (NAME + length + 5, top + ROW / 2))?;
        }
        area.present()?;
    }
    Ok(inline(svg))
}

/// Without what belongs to a file of its own, and as wide as there is room.
fn inline(svg: String) -> String {
    svg.replacen("<svg ", "<svg role=\"img\" ", 1)
}
