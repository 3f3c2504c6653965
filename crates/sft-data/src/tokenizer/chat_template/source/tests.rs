use super::*;
use crate::testing::Random;

fn text(source: &str) -> String {
    rewrite(source).text
}

#[test]
fn generation_tags_keep_their_whitespace_control() {
    let rewritten = rewrite("a {%- generation -%} b {% endgeneration +%} c {% if x %}");
    let expected = "a {%- filter __generation_block %}{% with -%} b {% endwith %}{% endfilter +%} c {% if x %}";
    assert_eq!((rewritten.text.as_str(), rewritten.has_generation_blocks), (expected, true));
    for source in
        ["{% generation_x %} {%", "{%", "{%} a", "{%} generation %} a", "{% raw %}{% generation %}{% endraw %}"]
    {
        assert_eq!(rewrite(source), Rewritten { text: source.to_owned(), has_generation_blocks: false });
    }
}

#[test]
fn every_line_end_is_a_line_feed() {
    assert_eq!(text("a\r\nb\rc\n{{ 'x\r\ny' }}"), "a\nb\nc\n{{ 'x\ny' }}");
}

#[test]
fn concatenations_become_calls() {
    for (source, expected) in [
        ("{{ a ~ b }}", "{{ __concat(a , b) }}"),
        ("{{ a ~ b ~ -c[1:2].d|e(f) + 1 }}", "{{ __concat(a , b , -c[1:2].d|e(f)) + 1 }}"),
        ("{{ 2 - a * b ~ c == d ~ e }}", "{{ 2 - __concat(a * b , c) == __concat(d , e) }}"),
        (
            "{{ f(a ~ b, k=c ~ d) ~ [e ~ f] }}",
            "{{ __concat(f(__concat(a , b), k=__concat(c , d)) , [__concat(e , f)]) }}",
        ),
        ("{{ x if not a ~ b else c ~ d }}", "{{ x if not __concat(a , b) else __concat(c , d) }}"),
        (
            "{{ a ~ b is not none and c not in d ~ e }}",
            "{{ __concat(a , b is not none) and c not in __concat(d , e) }}",
        ),
        ("{% set x = a ~ ' ~ ' %}", "{% set x = __concat(a , ' ~ ') %}"),
        ("{%- elif a.if ~ b -%}", "{%- elif __concat(a.if , b) -%}"),
        (
            "{# a ~ b #}a ~ b{% raw %}{{ a ~ b }}{% endraw %}",
            "{% set __comment = none %}a ~ b{% raw %}{{ a ~ b }}{% endraw %}",
        ),
        ("{{ {'a': {1: b ~ c}} }}", "{{ {'a': {1: __concat(b , c)}} }}"),
        ("{{ a ~ 'unfinished }}", "{{ a ~ 'unfinished }}"),
        ("{{ a) ~ b }}", "{{ a) ~ b }}"),
        ("{{ ~ }}", "{{ __concat(,) }}"),
    ] {
        assert_eq!(text(source), expected);
    }
}

#[test]
fn loops_and_methods_become_calls() {
    for (source, expected) in [
        ("{% for a in b ~ c if a.in %}", "{% for a in __iterate((__concat(b , c))) if a.in %}"),
        ("{% for a, b in c.items() recursive %}", "{% for a, b in __iterate((c.items())) recursive %}"),
        ("{% for a in b, c %}", "{% for a in __iterate((b, c)) %}"),
        ("{% for a in %}", "{% for a in %}"),
        ("{% if a.b[0].items.keys %}", "{% if __attribute(__attribute(a.b[0], \"items\"), \"keys\") %}"),
        (
            "{{ (a or b).items ~ f(x).get }}",
            "{{ __concat(__attribute((a or b), \"items\") , __attribute(f(x), \"get\")) }}",
        ),
        ("{% set ns.items = d.items %}", "{% set ns.items = __attribute(d, \"items\") %}"),
        ("{{ x|items.keys }}", "{{ x|items.keys }}"),
    ] {
        assert_eq!(text(source), expected);
    }
}

/// Whatever the source is, rewriting it ends, and the engine parses the result or refuses it.
#[test]
fn no_source_is_too_odd() {
    const PIECES: [&str; 48] = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-",
        "+",
        "~",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "'",
        "\"",
        "\\",
        "\\N",
        "\\a",
        ".",
        ",",
        ":",
        "=",
        "==",
        "|",
        " ",
        "\n",
        "\r",
        "\u{a0}",
        "é",
        "🙂",
        "a",
        "items",
        "for",
        "in",
        "if",
        "else",
        "is",
        "not",
        "recursive",
        "set",
        "raw",
        "endraw",
        "generation",
        "endgeneration",
        "1.5e-3",
        "0x",
    ];
    let mut random = Random(7);
    for _ in 0..20_000 {
        let length = random.below(14);
        let source: String = (0..length).map(|_| PIECES[random.below(PIECES.len())]).collect();
        let start = ["{{ ", "{% ", "{% for a in ", ""][random.below(4)];
        let end = [" }}", " %}", ""][random.below(3)];
        let source = format!("{start}{source}{end}");
        let rewritten = text(&source);
        if !source.contains(['~', '\\', '#', '\r', 'i', 'g']) && !source.contains("for") {
            assert_eq!(rewritten, source);
        }
    }
}
