//! The page as a whole.

use super::chart::{Chart, MOST_REFRESHES, Series};
use super::words::{Words, escaped, number, shown};
use crate::RunRecord;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt::Write;
use trainer_core::LogEntry;

/// How many colours the page's style has.
const COLOURS: usize = 6;

/// Figures of the log history, each with its own chart: the title, the key of a log of training
/// steps, and that of an evaluation.
const CHARTS: &[(Words, &str, Option<&str>)] = &[
    (Words("Loss", "损失"), "loss", Some("eval_loss")),
    (Words("Learning rate", "学习率"), "learning_rate", None),
    (Words("Gradient norm (before clipping)", "梯度范数（裁剪前）"), "grad_norm", None),
    (Words("Token accuracy", "词元准确率"), "mean_token_accuracy", Some("eval_mean_token_accuracy")),
];
const TRAINING: Words = Words("training", "训练");
const EVALUATION: Words = Words("evaluation", "评估");

/// A page with a header, the styles and the switch of language, around `body`. `title` is text,
/// `beside` and `body` are HTML.
pub fn framed(title: &str, beside: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'\"><title>{title}</title>\n<style>\n{}</style>\n<script>\n{}</script></head><body>\n\
         <header><h1>{title}</h1><p>{beside}</p><button type=\"button\"><span class=\"en\">中文</span>\
         <span class=\"zh\">English</span></button></header>\n{body}</body></html>\n",
        include_str!("style.css"),
        include_str!("script.js")
    )
}

/// A page about these runs; with several, one that compares them. It has no links and needs no
/// network. English or Chinese, light or dark, as the browser prefers.
pub fn page(runs: &[RunRecord]) -> String {
    let title = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    match runs {
        [run] => framed(&title, &progress(run), &[tiles(run), charts(runs), sections(run)].concat()),
        runs => framed(&title, "", &[comparison(runs), charts(runs), settings_that_differ(runs)].concat()),
    }
}

fn progress(run: &RunRecord) -> String {
    let (done, all) = (number(run.steps.0 as f64), number(run.steps.1 as f64));
    let of = if run.steps.1 == 0 { String::new() } else { format!(" / {all}") };
    format!("<span class=\"en\">step {done}{of}</span><span class=\"zh\" lang=\"zh\">第 {done}{of} 步</span>")
}

/// The numbers that people look for first.
fn tiles(run: &RunRecord) -> String {
    let best = best_evaluation(run);
    let at = |entry: Option<&LogEntry>, key: &str| entry.and_then(|entry| entry.get(key)?.as_f64());
    let last_loss = run.log_history.iter().rev().find_map(|entry| entry.get("loss")?.as_f64());
    let summary = run.log_history.iter().rev().find(|entry| entry.contains_key("train_runtime"));
    let tokens = run.log_history.iter().rev().find_map(|entry| entry.get("num_tokens")?.as_f64());
    let result = |key: &str| run.results.get(key).and_then(Value::as_f64);
    let pace = result("train_tokens_per_second").or_else(|| median(&run.chronicle.tokens_per_second));
    let tiles = [
        (Words("best eval_loss", "最佳 eval_loss"), at(best, "eval_loss").map(number)),
        (Words("at step", "所在步数"), at(best, "step").map(number)),
        (Words("last training loss", "最后的训练损失"), last_loss.map(number)),
        (Words("tokens trained on", "已训练词元"), tokens.map(number)),
        (Words("tokens a second", "词元/秒"), pace.map(number)),
        (Words("run time", "训练用时"), at(summary, "train_runtime").map(duration)),
        (Words("peak memory, GB", "显存峰值（GB）"), result("peak_memory_bytes").map(|bytes| number(bytes / 1e9))),
    ];
    let mut html = "<div class=\"tiles\">".to_owned();
    for (words, figure) in tiles {
        if let Some(figure) = figure {
            let _ = write!(html, "<div><b>{figure}</b><span class=\"soft\">{}</span></div>", words.html());
        }
    }
    html + "</div>\n"
}

fn best_evaluation(run: &RunRecord) -> Option<&LogEntry> {
    let evaluations = || run.log_history.iter().filter(|entry| entry.contains_key("eval_loss"));
    let marked = run.best_step.and_then(|best| evaluations().rfind(|entry| step_of(entry) == Some(best)));
    let loss = |entry: &&LogEntry| entry["eval_loss"].as_f64().unwrap_or(f64::INFINITY);
    marked.or_else(|| evaluations().min_by(|left, right| loss(left).total_cmp(&loss(right))))
}

fn median(points: &[(u64, f64)]) -> Option<f64> {
    let mut values: Vec<f64> = points.iter().map(|point| point.1).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
    }
}

fn step_of(entry: &LogEntry) -> Option<u64> {
    entry.get("step")?.as_u64()
}

/// The figures under `key`, `null` as NaN.
fn points(run: &RunRecord, key: &str) -> Vec<(u64, f64)> {
    let entries = run.log_history.iter();
    entries.filter_map(|entry| Some((step_of(entry)?, entry.get(key)?.as_f64().unwrap_or(f64::NAN)))).collect()
}

/// The steps on which GaLore makes all of its subspaces.
fn refreshes(run: &RunRecord) -> Vec<u64> {
    let text = |name: &str| run.settings.get(name).and_then(Value::as_str);
    // A lazy refresh comes when the subspace has changed.
    let is_even =
        text("galore_refresh") != Some("staggered") && !text("optim_args").is_some_and(|text| text.contains("lazy"));
    if !text("optim").is_some_and(|name| name.starts_with("galore")) || !is_even {
        return Vec::new();
    }
    let gap = text("optim_args").unwrap_or_default().split(',').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        (name.trim() == "update_proj_gap").then(|| value.trim().parse().ok())?
    });
    // galore-torch's own gap, where the options name none.
    let gap: u64 = gap.unwrap_or(200).max(1);
    let steps: Vec<u64> = (0..).map(|index| 1 + index * gap).take_while(|step| *step <= run.steps.0).collect();
    if steps.len() > MOST_REFRESHES { Vec::new() } else { steps }
}

fn charts(runs: &[RunRecord]) -> String {
    let mut charts = Vec::new();
    for (title, train_key, eval_key) in CHARTS {
        let mut chart = empty_chart(*title, runs);
        for (index, run) in runs.iter().enumerate() {
            let several = runs.len() > 1;
            let label =
                |of: Words| if several { format!("{} · {}", escaped(&run.name), of.html()) } else { of.html() };
            chart.series.push(Series {
                label: label(TRAINING),
                colour: index % COLOURS,
                is_marked: false,
                points: points(run, train_key),
            });
            let Some(key) = eval_key else { continue };
            let evaluations = points(run, key);
            if *key == "eval_loss" {
                let best = best_evaluation(run).and_then(step_of);
                chart.best.extend(evaluations.iter().rfind(|point| Some(point.0) == best));
            }
            let colour = if several { index } else { 1 };
            chart.series.push(Series {
                label: label(EVALUATION),
                colour: colour % COLOURS,
                is_marked: true,
                points: evaluations,
            });
        }
        charts.push(chart);
    }
    let mut pace = empty_chart(Words("Tokens a second", "词元/秒"), runs);
    for (index, run) in runs.iter().enumerate() {
        let points = run.chronicle.tokens_per_second.clone();
        let label = if runs.len() > 1 { escaped(&run.name) } else { TRAINING.html() };
        pace.series.push(Series { label, colour: index % COLOURS, is_marked: false, points });
    }
    charts.push(pace);

    let mut html = "<div class=\"charts\">\n".to_owned();
    for chart in charts.iter_mut().filter(|chart| !chart.is_empty()) {
        chart.series.retain(|series| !series.points.is_empty());
        html += &chart.html();
    }
    html += "</div>\n";
    if let [run] = runs {
        let mut marks = vec![Words("○ best evaluation", "○ 最佳评估"), Words("▲ checkpoint", "▲ 检查点")];
        if !refreshes(run).is_empty() {
            marks.push(Words("┊ new GaLore subspaces", "┊ GaLore 子空间更新"));
        }
        let marks = marks.into_iter().map(Words::html).collect::<Vec<_>>().join(" &nbsp; ");
        let _ = writeln!(html, "<p class=\"soft\">{marks}</p>");
    }
    html
}

/// Marks of one run; those of several would hide the curves.
fn empty_chart(title: Words, runs: &[RunRecord]) -> Chart {
    let (refreshes, saves) = match runs {
        [run] => (refreshes(run), run.chronicle.saves.clone()),
        _ => (Vec::new(), Vec::new()),
    };
    Chart { title, series: Vec::new(), refreshes, saves, best: Vec::new() }
}

/// What comes below the curves of one run.
fn sections(run: &RunRecord) -> String {
    let mut html = evaluations(run);
    html += &notices(run);
    if !run.data.is_empty() {
        let lines: String = run.data.iter().map(|line| format!("<p>{}</p>", escaped(line))).collect();
        html += &card(Words("Data", "数据"), &lines);
    }
    if !run.differences.is_empty() {
        html +=
            &card(Words("What differs from the documented recipe", "与文档配方的不同"), &settings(&run.differences));
    }
    if !run.settings.is_empty() {
        let _ = writeln!(
            html,
            "<details><summary>{}</summary>{}</details>",
            Words("All settings", "全部设置").html(),
            settings(&run.settings)
        );
    }
    html
}

/// A part of a page: a title and a frame around `content`, which is HTML.
pub fn card(title: Words, content: &str) -> String {
    format!("<h2>{}</h2><section class=\"card\"><div class=\"scroll\">{content}</div></section>\n", title.html())
}

fn evaluations(run: &RunRecord) -> String {
    const COLUMNS: &[(Words, &str)] = &[
        (Words("step", "步数"), "step"),
        (Words("epoch", "轮次"), "epoch"),
        (Words("eval_loss", "eval_loss"), "eval_loss"),
        (Words("perplexity", "困惑度"), "perplexity"),
        (Words("token accuracy", "词元准确率"), "eval_mean_token_accuracy"),
        (Words("seconds", "秒"), "eval_runtime"),
    ];
    let entries: Vec<&LogEntry> = run.log_history.iter().filter(|entry| entry.contains_key("eval_loss")).collect();
    if entries.is_empty() {
        return String::new();
    }
    let columns: Vec<_> =
        COLUMNS.iter().filter(|(_, key)| entries.iter().any(|entry| entry.contains_key(*key))).collect();
    let mut table = "<table><tr>".to_owned();
    for (title, _) in &columns {
        let _ = write!(table, "<th class=\"figure\">{}</th>", title.html());
    }
    table += "</tr>";
    let best = best_evaluation(run).and_then(step_of);
    for entry in entries {
        table += if step_of(entry) == best { "<tr class=\"chosen\">" } else { "<tr>" };
        for (_, key) in &columns {
            let figure = entry.get(*key).map_or_else(String::new, |value| number(value.as_f64().unwrap_or(f64::NAN)));
            let _ = write!(table, "<td class=\"figure\">{figure}</td>");
        }
        table += "</tr>";
    }
    card(Words("Evaluations", "评估"), &(table + "</table>"))
}

/// Entries that are neither a log nor an evaluation nor the summary: skipped steps, saves that
/// failed.
fn notices(run: &RunRecord) -> String {
    let is_notice = |entry: &&LogEntry| {
        ["loss", "eval_loss", "train_loss", "train_runtime"].iter().all(|key| !entry.contains_key(*key))
    };
    let lines = run.log_history.iter().filter(is_notice).take(200).map(|entry| {
        let figures: Vec<_> = entry.iter().map(|(name, value)| format!("{} {}", escaped(name), shown(value))).collect();
        format!("<p>{}</p>", figures.join(" · "))
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { card(Words("What went wrong on the way", "途中的问题"), &lines) }
}

fn settings(settings: &Map<String, Value>) -> String {
    let rows = settings
        .iter()
        .map(|(name, value)| format!("<tr><td>{}</td><td class=\"value\">{}</td></tr>", escaped(name), shown(value)));
    format!("<table>{}</table>", rows.collect::<String>())
}

/// The figures of several runs side by side.
fn comparison(runs: &[RunRecord]) -> String {
    const COLUMNS: [Words; 6] = [
        Words("run", "训练"),
        Words("steps", "步数"),
        Words("best eval_loss", "最佳 eval_loss"),
        Words("at step", "所在步数"),
        Words("last training loss", "最后的训练损失"),
        Words("tokens a second", "词元/秒"),
    ];
    let mut table = "<table><tr>".to_owned();
    for (index, title) in COLUMNS.iter().enumerate() {
        let class = if index == 0 { "" } else { " class=\"figure\"" };
        let _ = write!(table, "<th{class}>{}</th>", title.html());
    }
    table += "</tr>";
    let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
    let best_loss = |run: &RunRecord| best_evaluation(run).and_then(|entry| entry["eval_loss"].as_f64());
    let best = runs.iter().filter_map(best_loss).min_by(f64::total_cmp);
    for (index, run) in runs.iter().enumerate() {
        let pace = run.results.get("train_tokens_per_second").and_then(Value::as_f64);
        let chosen = if best.is_some() && best_loss(run) == best { " class=\"chosen\"" } else { "" };
        let _ = write!(table, "<tr{chosen}><td><i class=\"key c{}\"></i>{}</td>", index % COLOURS, escaped(&run.name));
        for cell in [
            Some(run.steps.0 as f64),
            best_loss(run),
            best_evaluation(run).and_then(step_of).map(|step| step as f64),
            run.log_history.iter().rev().find_map(|entry| entry.get("loss")?.as_f64()),
            pace.or_else(|| median(&run.chronicle.tokens_per_second)),
        ] {
            let _ = write!(table, "<td class=\"figure\">{}</td>", figure(cell));
        }
        table += "</tr>";
    }
    card(Words("Runs", "各次训练"), &(table + "</table>"))
}

/// Settings that are not the same in all runs.
fn settings_that_differ(runs: &[RunRecord]) -> String {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let mut rows = String::new();
    for name in names {
        let values: Vec<_> = runs.iter().map(|run| run.settings.get(name)).collect();
        if values.iter().all(|value| *value == values[0]) {
            continue;
        }
        let _ = write!(rows, "<tr><td>{}</td>", escaped(name));
        for value in values {
            let _ = write!(rows, "<td class=\"value\">{}</td>", value.map_or_else(|| "–".to_owned(), shown));
        }
        rows += "</tr>";
    }
    if rows.is_empty() {
        return rows;
    }
    let heads: String = runs.iter().map(|run| format!("<th>{}</th>", escaped(&run.name))).collect();
    card(Words("Settings that differ", "不同的设置"), &format!("<table><tr><th></th>{heads}</tr>{rows}</table>"))
}
