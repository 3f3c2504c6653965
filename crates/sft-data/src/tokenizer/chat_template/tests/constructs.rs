//! One construct of Jinja2 a template, compared with what it gives in Python.

use super::super::*;
use super::source_of;
use crate::testing::{golden, message, tokenizer};

/// What is refused, where Python gives a text.
const REFUSED: [&str; 37] = [
    "{{ '%*d'|format(5, 1) }}",
    "{{ 'a b c d'|wordwrap(3) }}",
    "{{ 'hello world foo'|truncate(9) }}",
    "{{ 'hello world foo'|truncate(9, true) }}",
    "{{ 'hello world foo'|truncate(9, true, '..') }}",
    "{{ 'hello'|truncate(255) }}",
    r#"{{ '%r'|format("it's") }}"#,
    "{{ '%g %e'|format(1e-05, 12345.678) }}",
    "{{ '%d'|format(3.9) }}",
    "{{ 'a <b>c</b>  d'|striptags }}",
    "{{ 'a b/c?é'|urlencode }}",
    "{{ {'a': 1, 'b': 'c d'}|urlencode }}",
    r#"{{ {'a': 1, 'b': 'c"d'}|xmlattr }}"#,
    "{{ 1000|filesizeformat }}",
    "{{ d|pprint }}",
    "{{ x[0]|pprint }}",
    "{{ people|random|length }}",
    "{{ dict([('a', 1)]) }}",
    "{{ lipsum(n=1)|length > 0 }}",
    "{{ cycler('a', 'b').next() }}",
    "{{ joiner(',')() }}",
    "{{ namespace(a=1) }}",
    "{{ 'ẞ'.casefold() }}",
    "{{ '{!r}'.format('a') }}",
    "{{ '{a.b}'.format(a={'b': 1}) }}",
    "{{ '{a[b]}'.format(a={'b': 1}) }}",
    "{{ '{:%}'.format(0.25) }}",
    "{{ 'abc'.encode() }}",
    "{{ 'a'.translate({97: 'b'}) }}",
    "{{ '%s' % 'a' }}",
    "{{ (1.5).is_integer() }}",
    r#"{{ '\N{BULLET}' }}"#,
    "{{ +1 }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "{% print 'a' ~ 1e-05 %}",
    "{% for i in range(2) %}{{ loop }}{% endfor %}",
];

/// What the engine accepts, where Python refuses it.
const ACCEPTED: [&str; 6] = [
    "{{ 1 < 'a' }}",
    "{{ none < 1 }}",
    "{{ 1 in 'abc' }}",
    "{{ d|dictsort(false, 'value') }}",
    "{{ 'a' < 1 }}",
    "{{ none|groupby('a') }}",
];

/// What gives another text.
const OTHER: [&str; 5] = [
    "{{ people|groupby('city') }}",
    "{{ words[1.0] }}",
    "{% macro m() %}{{ m.name }}{{ m.arguments }}{% endmacro %}{{ m() }}",
    "{{ '{}'.format('<b>') }}{{ ('<i>'|safe).format() }}{{ ('<i>{}'|safe).format('<b>') }}",
    "{{ ('<i>'|e) + '<b>' }}{{ ('<i>'|e)|upper }}{{ ('a<'|e)|replace('a', '<') }}",
];

#[test]
fn constructs_give_what_they_give_in_python() {
    let golden = golden("jinja.json");
    let tokenizer = tokenizer("qwen");
    let messages = golden["messages"].as_array().unwrap();
    let context =
        ChatContext { template_kwargs: golden["variables"].as_object().unwrap().clone(), ..ChatContext::default() };
    let mut differences = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let source = case[0].as_str().unwrap();
        let found = ChatTemplate::compile(source_of(source))
            .and_then(|template| template.render(messages, &context, &tokenizer.special, AddGenerationPrompt::No));
        let is_in = |list: &[&str]| list.contains(&source);
        match (found, case[1].as_str()) {
            (Ok(found), Some(expected)) if found == expected => {
                assert!(!is_in(&REFUSED) && !is_in(&OTHER), "{source} is as in Python");
            }
            (Err(_), None) => assert!(!is_in(&ACCEPTED), "{source} is as in Python"),
            (Err(_), Some(_)) if is_in(&REFUSED) => {}
            (Ok(_), None) if is_in(&ACCEPTED) => {}
            (Ok(_), Some(_)) if is_in(&OTHER) => {}
            (found, expected) => {
                let found = found.map_err(|error| message(&error));
                differences.push(format!("{source}\n  found    {found:?}\n  expected {expected:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}
