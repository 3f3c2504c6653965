"""Writes jinja.json: what chat templates of our own give in Jinja2, set up as transformers sets it up.

    pip install transformers==5.17.0 jinja2==3.1.6
    python make_jinja.py

Each template is small and tries one construct. All get the same messages and variables.
"""

import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [
    {"role": "system", "content": "  Be brief.\n"},
    {"role": "user", "content": "it's a self_made o'neill's <b>&amp;</b> test, 今天 ünï ß ǆ"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"function": {"name": "get_x", "arguments": {"items": 3, "keys": "k", "lr": 1e-05, "tol": 1.5e-07, "big": 1e16, "whole": 2.0, "n": 7, "on": True, "no": None}}}
        ],
    },
    {"role": "tool", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "none": None},
]
NUMBERS = [1e-05, 1e-04, 0.00012345, 1.5e-07, 1e15, 1e16, 123456789012345680.0, 1e22, 1e23, 1.7976931348623157e308, 5e-324, -0.0, 0.0, 2.0, 2.5, 0.1, 100, -3, 9007199254740993, 18446744073709551615]
VARIABLES = {
    "x": NUMBERS,
    "d": {"b": 1, "a": "A", "B": [1, 2.0, None, True, "q'\"\n\\é\u200b\x7f\x00"], "items": 9, "é": {}},
    "words": ["b", "A", "a", "B", "c", "b"],
    "people": [{"name": "Zoë", "age": 3, "city": "x"}, {"name": "ann", "age": 1, "city": "y"}, {"name": "Bob", "age": 2, "city": "x"}],
    "text": "one, two;three_four  five-six (seven) [eight] {nine} <ten> o'clock \t end\n",
    "lines": "a\n  b\r\nc\rd\x0be\x0cf\x1cg\x85h\u2028i\n\nj\n",
    "nested": [[1, [2, [3]]], {"k": [{"z": 1e-05}]}],
    "empty": [],
    "blank": "",
    "nothing": None,
    "yes": True,
    "no": False,
}

# One expression each.
EXPRESSIONS = r"""
x
x[0] ~ '|' ~ x[3] ~ '|' ~ x[5] ~ '|' ~ x[8] ~ '|' ~ x[11]
'a' ~ x[0] + 'b' ~ 1
1 ~ 2 * 3 ~ -4
(1 ~ 2)|int + 1
yes ~ no ~ nothing ~ missing ~ x[13]
'a' ~ ('b' if no else 'c' ~ 'd') ~ [1 ~ 2, {'k' ~ 1: 2 ~ 3}]
x[0]|string ~ x[0] is number
'a' ~ 'b' == 'ab'
'a' ~ 'b' in ['ab']
'ab' ~ 'c' is string
not 'a' ~ ''
messages[1].content[0:2] ~ messages|length
x|join(',')
x|map('string')|join(' ')
x|map('float')|list
x|tojson
d|tojson
d|string
d
d|tojson(ensure_ascii=True)
d|tojson(true)
d|tojson(indent=2)
d|tojson(indent=0)
d|tojson(indent='\t')
d|tojson(false, 1)
d|tojson(indent=true)
d|tojson(separators=(',', ':'))
d|tojson(separators=[';', '='], indent=1)
d|tojson(sort_keys=true)
{2: 'a', 1.5: 'b', true: 'c', none: 'd'}|tojson
{1e-05: 1}|tojson
missing|tojson
(1, 2)|tojson
'é\u2028\u007f\ud83d\ude00"\\/\b\f\n\r\t\x01'|tojson
'é🙂'|tojson(ensure_ascii=true)
range(3)|tojson
d.keys()|tojson
'<&>\''|tojson
nothing|tojson
('nan'|float)|tojson
('inf'|float)|tojson
'nan'|float
'-inf'|float
'inf'|float ~ ''
[('inf'|float), ('nan'|float)]
1e5
1e16
1e-7
1.0
12345678901234567890123
12345678901234567890123 + 1
0x1F
0b101
0o17
1_000
1e1_0
7 / 2
7 // 2
-7 // 2
-7 % 3
7.5 // 2
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
1 / 3
10 / 2
1e308 * 10
0.1 + 0.2
3 * 'ab'
'ab' * 0
[1] * 3
(1, 2) * 2
[1] + [2]
(1,) + (2,)
(1,)
()
true + 1
1 == 1.0
1 == true
'1' == 1
none == missing
missing == missing
missing == ''
1 < 2 < 3
'a' < 'b'
[1, 2] < [1, 3]
1 < 'a'
none < 1
'a' in missing
1 in [1.0]
'k' in d
'a' in d
'a' in 'abc'
1 in 'abc'
none in [none]
'x' not in d
not none
missing.attr
none.attr
nothing.attr.deeper
nothing['a']
'abc'.attr
(1).attr
missing
missing + 'a'
missing ~ 'a'
missing|length
missing|upper
missing|default('x')
blank|default('x')
blank|default('x', true)
nothing|default('x')
nothing|d('x', boolean=true)
missing or 'x'
missing and 'x'
nothing or 'x'
blank and 'x'
0 or none
none|length
5|length
none|list
none|join(',')
missing|join(',')
missing|list
none|upper
5|upper
5|trim
none|trim
none|string
true|string
true|lower
true|int
'5'|int
'5.9'|int
'0x1f'|int(0, 16)
'abc'|int
'abc'|int(-1)
'  5 '|int
5.9|int
-5.9|int
none|int
'12345678901234567890'|int
'5'|float
'1e3'|float
'abc'|float
'abc'|float(2.5)
5|float
1e-05|float
'1_000'|int
'inf'|int
3|round
2.5|round
3.5|round
2.567|round(2)
2.567|round(2, 'floor')
2.567|round(1, 'ceil')
1234.5|round(-2)
2.675|round(2)
1e-05|round(6)
3|abs
-3.5|abs
-3|abs
x[:3]|sum
[1, 2]|sum
[0.1, 0.2, 0.3]|sum
people|sum('age')
people|sum(attribute='age', start=10)
[1, 3, 2]|max
[1, 3, 2]|min
words|max
words|min
people|max(attribute='age')
[]|max
words|sort
words|sort(true)
words|sort(case_sensitive=true)
words|sort(reverse=true)
people|sort(attribute='age')
people|sort(attribute='name')|map(attribute='name')|join(',')
people|sort(attribute='city,age')|map(attribute='name')|join(',')
words|unique|list
words|unique(true)|list
people|unique(attribute='city')|map(attribute='name')|list
d|dictsort
d|dictsort(true)
d|dictsort(false, 'value')
{'b': 1, 'a': 2, 'C': 0}|dictsort
{'b': 1, 'a': 2, 'C': 0}|dictsort(case_sensitive=true)
{'b': 1, 'a': 2, 'C': 0}|dictsort(by='value')
{'b': 1, 'a': 2, 'C': 0}|dictsort(reverse=true)
people|groupby('city')
people|groupby('city')|map('first')|join(',')
people|groupby('city')|map(attribute='list')|map('length')|list
[1, 2, 3, 4, 5]|batch(2)|list
[1, 2, 3, 4, 5]|batch(2, 'x')|list
[1, 2, 3, 4, 5]|slice(2)|list
[1, 2, 3, 4, 5]|slice(3, 'x')|list
'abc'|list
d|list
'abc'|first
'abc'|last
''|first
d|first
d|last
[]|first
[]|last
[1, 2]|first
'abc'|reverse
[1, 2]|reverse|list
[1, 2]|reverse
d|reverse|list
d|items|list
missing|items|list
'abc'|replace('b', 'x')
'aaa'|replace('a', 'b', 2)
'abc'|replace('', '-')
1.5|replace('.', ',')
[1, 2]|join
[1, 2]|join(', ')
people|join(',', attribute='name')
people|join(', ', 'name')
d|join(',')
'abc'|join('-')
[none, true, 1.0]|join('|')
people|map(attribute='name')|list
people|map(attribute='nope')|list
people|map(attribute='nope', default='-')|list
people|map('length')|list
words|map('upper')|join
words|map('replace', 'a', 'z')|join
people|map(attribute='name')|map('lower')
people|selectattr('age', '>', 1)|map(attribute='name')|list
people|selectattr('age')|list|length
people|selectattr('nope', 'defined')|list
people|selectattr('nope', 'undefined')|list|length
people|selectattr('city', 'eq', 'x')|list|length
people|selectattr('city', 'in', ['y'])|list|length
people|rejectattr('city', 'equalto', 'x')|map(attribute='name')|list
messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|first
messages|rejectattr('role', 'ne', 'tool')|list|length
[1, 2, 3]|select('odd')|list
[1, 0, none, 'a']|select|list
[1, 2, 3]|reject('odd')|list
[1, 2, 3]|select('>', 1)|list
[1, 2, 3]|select('divisibleby', 3)|list
messages|selectattr('tool_calls', 'defined')|list|length
messages|map(attribute='tool_calls.0.function.name')|list|length
text|trim
text|trim('on')
'  x '|trim
'\x1cx\x1c'|trim
'xxaxx'|trim('x')
text|title
"it's o'neill self_made a-b (c) ß ǆ"|title
"hello_world don't 3rd x2y"|title
'ABC dEF'|capitalize
'ß'|capitalize
'ǆabc'|capitalize
'abc'|upper
'ß İ Σ ΑΣ'|lower
'ŉ ß'|upper
text|wordcount
'a b c d'|wordwrap(3)
'hello world foo'|truncate(9)
'hello world foo'|truncate(9, true)
'hello world foo'|truncate(9, true, '..')
'hello'|truncate(255)
'ab'|center(6)
'ab'|center(7)
'a\nb'|indent
'a\n\nb'|indent(2)
'a\n\nb'|indent(2, true)
'a\n\nb'|indent(2, true, true)
'a\nb\n'|indent('> ')
'a\nb'|indent(width=2, first=true)
'%s=%d'|format('a', 3)
'%s'|format(x[0])
'%5.2f|%-5s|%05d|%x|%%'|format(2.5, 'a', 42, 255)
'%(a)s'|format(a=1)
'%r'|format("it's")
'%s %s'|format('a')
'%g %e'|format(1e-05, 12345.678)
'%.3s'|format('abcdef')
'%s'|format([1.0, 'a'])
'%d'|format(3.9)
'%c'|format('x')
'%+d % d'|format(3, 4)
'%s'|format(none)
'%i'|format(2)
'<a>'|escape
'<a>'|e ~ '<b>'
'<a>'|safe
'<a>'|safe ~ '<b>'
'<a b="c">&\''|e
1|e
'a <b>c</b>  d'|striptags
'a b/c?é'|urlencode
{'a': 1, 'b': 'c d'}|urlencode
{'a': 1, 'b': 'c"d'}|xmlattr
1000|filesizeformat
d|pprint
x[0]|pprint
d|attr('a')
people|random|length
words|count
'héllo'|length
d|length
d|count
[3, 1, 2]|sort|first
'a'|lines
'a b'|split
[1]|bool
[1]|zip([2])
[1]|chain([2])
'abc' is startingwith 'a'
'abc' is endingwith 'c'
'<a>'|forceescape
debug()
dict(a=1, b=2)
dict([('a', 1)])
dict({'a': 1}, b=2)
lipsum(n=1)|length > 0
cycler('a', 'b').next()
joiner(',')()
range(5)|list
range(5, 0, -2)|list
range(3)
range(0)|length
range(2, 5)[1]
range(10)[::3]|list
namespace(a=1).a
namespace(a=1)
'abc' is sequence
d is sequence
[] is sequence
(1,) is sequence
range(2) is sequence
1 is sequence
none is sequence
missing is sequence
messages[1:] is sequence
d.items() is sequence
d.keys() is sequence
('a'|list) is sequence
(words|map('upper')) is sequence
'abc' is mapping
d is mapping
[] is mapping
missing is mapping
namespace(a=1) is mapping
'abc' is iterable
none is iterable
missing is iterable
1 is iterable
d is iterable
d.items() is iterable
(words|map('upper')) is iterable
'abc' is string
1 is string
('a'|e) is string
missing is string
1 is number
1.5 is number
true is number
'1' is number
none is number
missing is number
1 is integer
true is integer
1.0 is integer
'1' is integer
1 is float
1.0 is float
true is float
true is boolean
1 is boolean
none is none
missing is none
nothing is none
nothing is defined
missing is defined
d.nope is defined
d.a is defined
d['nope'] is undefined
messages[99] is defined
true is true
1 is true
false is false
0 is false
none is false
3 is odd
4 is even
9 is divisibleby 3
9 is divisibleby(4)
'abc' is lower
'ABC' is upper
'aBc' is lower
'123' is lower
1 is eq 1
1 is sameas 1
none is sameas none
true is sameas true
1 is in [1, 2]
1 is not in [1, 2]
'a' is in 'abc'
1 is lessthan 2
1 is gt 2
'upper' is filter
'nope' is filter
'odd' is test
range is callable
'a' is callable
d.get is callable
('<a>'|e) is escaped
'a' is escaped
1 is not none
1 is not string
not 1 is string
words[0]
words[-1]
words[-2:]
words[:-1]
words[::2]
words[::-1]
words[1:4:2]
words[4:1:-1]
words[10]
words[10:]
words['a']
words[1.0]
words[true]
'abcdef'[1]
'abcdef'[-1]
'abcdef'[::-2]
'abcdef'[10]
'abcdef'[1:3]
'今天好'[1:]
(1, 2, 3)[1:]
words[1:] + ['x']
words[1:][0]
words[1:]|length
words[1:]|tojson
words[::-1]|tojson
messages[1:]|map(attribute='role')|join
messages[::-1][0].role
words[0:2] == ['b', 'A']
words.0
d['a']
d.a
d.items
d.get('a')
d.get('nope')
d.get('nope', 'x')
d.get('nope').x
d.keys()
d.values()
d.items()
d.keys()|list
d.values()|list
d.items()|list
d.items()|length
d.copy()
d.a.b
d.pop('a')
d.update({'z': 1})
d.setdefault('a', 2)
messages[2].tool_calls[0].function.arguments.items()|list|length
messages[2].tool_calls[0].function.arguments.keys()|list
messages[2].tool_calls[0].function.arguments.items
messages[2].tool_calls[0].function.arguments['items']
messages[2].tool_calls[0].function.arguments.keys is string
messages[2].tool_calls[0].function.arguments|items|list
messages[2].tool_calls[0].function.arguments|tojson
messages[2].tool_calls[0].function.arguments
messages[3].content
messages[3].content|map(attribute='text')|join('')
messages[3].none.x
messages[0].content.strip()
'\x1c\x85\u2003 a '.strip()
'xxaxx'.strip('x')
'abcba'.lstrip('ab')
'abcba'.rstrip('ab')
'  a '.lstrip()
'  a '.rstrip()
'a\u200b'.strip()
'a'.strip(none)
' a b  c '.split()
' a b  c '.split(none, 1)
'a,b,c'.split(',')
'a,b,c'.split(',', 1)
'a,b,c'.split(',', maxsplit=1)
'a,b,c'.split(sep=',')
'a,b,c'.rsplit(',', 1)
' a b  c '.rsplit(none, 1)
'a'.split('')
''.split()
''.split(',')
'a,b'.split(',')[-1]
'a,b,c'.split(',', -1)
'a,b,c'.split(',', 0)
' a b '.split(none, 0)
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('x')
lines.splitlines()
lines.splitlines(true)
lines.splitlines(keepends=true)
'a\n'.splitlines()
text.title()
"it's o'neill self_made a-b ß ǆ".title()
"hello_world don't 3rd x2y".title()
'ABC dEF'.capitalize()
'ßx'.capitalize()
'abc'.upper()
'ABC'.lower()
'ẞ'.casefold()
'aBc'.swapcase()
'abc'.startswith('a')
'abc'.startswith(('x', 'a'))
'abc'.startswith(['a'])
'abc'.startswith('b', 1)
'abc'.endswith('c')
'abc'.endswith(('x', 'c'))
'abc'.endswith('b', 0, 2)
'abcabc'.find('c')
'abcabc'.find('c', 3)
'今天c'.find('c')
'abcabc'.rfind('c')
'abc'.find('x')
'abc'.index('c')
'abc'.index('x')
'abcabc'.rindex('a')
'abcabc'.count('a')
'aaaa'.count('aa')
'abc'.count('')
'abc'.replace('b', 'x')
'aaa'.replace('a', 'b', 2)
'abc'.replace('', '-')
'aaa'.replace('a', 'b', count=1)
'a'.join(['1', '2'])
','.join('abc')
','.join([1, 2])
','.join(d)
','.join(words[1:])
'abc'.center(7)
'abc'.center(8, '*')
'abc'.ljust(5) ~ '|'
'abc'.rjust(5, '.')
'5'.zfill(3)
'-5'.zfill(4)
'abc'.removeprefix('a')
'abc'.removesuffix('c')
'a\tb'.expandtabs(4)
'abc'.isalpha()
'ab1'.isalnum()
'123'.isdigit()
'١²½'.isdigit()
'²'.isdigit()
'½'.isnumeric()
'½'.isdigit()
'١'.isdecimal()
' \t'.isspace()
'\x1c'.isspace()
''.isspace()
'abc'.islower()
'ABC'.isupper()
'aBc'.islower()
'Abc Def'.istitle()
'abc'.isascii()
'é'.isascii()
'a_1'.isidentifier()
'a'.isprintable()
'{}-{}'.format('a', 1)
'{0}{0}{1}'.format('a', 'b')
'{a}'.format(a=1.0)
'{:>5}|{:<5}|{:^5}'.format('a', 'b', 'c')
'{:.2f}'.format(2.567)
'{:05d}'.format(42)
'{:,}'.format(1234567)
'{}'.format(x[0])
'{!r}'.format('a')
'{{}}'.format()
'{a.b}'.format(a={'b': 1})
'{a[b]}'.format(a={'b': 1})
'{:x}'.format(255)
'{:e}'.format(12345.678)
'{:%}'.format(0.25)
'{}'.format(none)
'{}'.format([1, 'a'])
'abc'.encode()
'a'.translate({97: 'b'})
'%s' % 'a'
words.index('A')
words.count('b')
words.append('z')
words.copy()
(1, 2, 1).count(1)
(1, 2).index(2)
(1.5).is_integer()
'a' 'b'
"it's"
'it"s'
["it's", 'it"s', 'it\'s "x"', 'a\\b', 'tab\t', 'nl\n', 'é', '\u200b', '\x7f', '\xa0', '\x00', '🙂', '\u0301', '\ue000']
'\x41\u0042\101\d\a\'\"'
'\N{BULLET}'
'a\
b'
'\\n'
'\u00e9'
[1, 2.0, none, true, 'a', (1,), {'k': (1, 2)}, []]
{'a': missing}
[missing]
{1: 2}[1]
{'a': 1}.a
{true: 'x'}[1]
{}
[[], {}, (), '']
nested
nested|tojson
1 if yes
1 if no
1 if no else 2
yes if yes else no and 1
none is none and 1 or 2
[1, 2, 3][1] if 1 else 0
-x[18]
+1
--1
x[19] + 1
x[18] * 2.0
x[19]|float
x[12]
1.5 // 0
1 // 0
1 % 0
1 / 0
3.0 * 2
6 / 3
5 % 2.5
1e400
strftime_now('%Y')|length
strftime_now('%d %b %Y %H:%M')|length
strftime_now('%Z%z|')
strftime_now('%f')|length
strftime_now('%-d')|length > 0
strftime_now('plain %%')
raise_exception('no')
loop
caller
varargs
range(3)|sum
range(1, 4)|map('string')|join('-')
words|map('capitalize')|list|tojson
messages|map(attribute='role')|list
messages|length - 1
messages[0]['role'] == 'system'
messages|last
(messages|last).role
messages|list == messages
messages[0].content|trim|length
'a' < 1
words|first|upper ~ words|last
d|items|map('first')|list
d.items()|map('last')|list|length
people|map(attribute='age')|sum
people|map(attribute='age')|max
'%s' | format(1.0)
1.0|string
x[0]|string
[x[0]]|string
10 is divisibleby 5 and 3 is odd
'a'|default
x is sequence and x is not mapping and x is not string
yes is boolean and yes is not integer
blank|length == 0
1 ~ '' ~ 2 ~ ''
''~x[3]
""|string ~ 1e-05 * 1
x[3] * 1 ~ ''
'a' if x[0] ~ '' == '1e-05' else 'b'
{'a' ~ 1: 'b' ~ 2}['a1']
words[words|length - 1] ~ words[0 ~ ''|int]
('a', 'b') | join(' ~ ')
' ~ ' ~ "~" ~ '\'~'
[1, 2]|map('string')|join ~ 'x' | upper
yes and 'a' ~ 'b' or 'c' ~ 'd'
'x' ~ yes is true
'x' ~ 1 is in ['x']
'x' ~ (1 is not in [2]) ~ 'y'
-1 ~ -2
2 ** 3 ~ 1
2 - 1 ~ 1
'a' ~ none is none
d.values()|first ~ ''
d.items()|first
'a' in none
'a' in nothing
none + 'a'
'a' + none
'a' + 1
none * 2
none[0]
none.strip()
-none
none|first
none|last
none|tojson
none|trim
none|replace('o', 'a')
none|map('upper')|list
none|selectattr('a')|list
none|sum
none|sort
none|reverse
none|dictsort
none|items|list
none|indent
none|int
none|float
none|title
none|unique|list
none|max
none|batch(2)|list
none|groupby('a')
none|round
none|abs
none|default('a', true)
none is iterable
none == false
none|select|list
5|map('upper')|list
5|sort
5|first
5|reverse
5|last
missing|sort
missing|first
missing|last
missing|reverse
missing|sum
missing|map('upper')|list
missing|int
missing|trim
missing|replace('a', 'b')
missing|tojson(indent=2)
missing|dictsort
missing == false
missing[0]
missing()
missing.a.b
-missing
missing * 2
missing in ['a']
missing|join
missing|string|length
missing|selectattr('a')|list
missing|unique|list
d.nope.deeper
d.nope|length
d|map('upper')|list
d|select|list
d|sort
d|unique|list
d|max
d|sum
'abc'|map('upper')|list
'cab'|sort
'abc'|unique|list
'abc'|max
'abc' in d
d == d
d == {'b': 1}
[1, 2] == (1, 2)
(1, 2) == (1, 2)
[1] in [[1]]
{'a': 1} == {'a': 1.0}
[1] + none
[1] + (2,)
d + d
d * 2
d - 1
'a' - 'b'
'3' * 2
2 * '3'
'a' * 1.5
[1] * 'a'
true and 'x'
'' or none or 'z'
messages and 1
{} or 'empty'
0.0 or 'zero'
range(0) or 'none'
d.items() and 1
'a'.upper().lower().title()
messages[1]['content'].split()[0]
messages[1].content.split("'")[1:]|join("'")
messages[1].content|length
messages[1].content[:10]|upper
messages[1].content.find('今')
messages[0].content.strip().split(' ')
messages|length > 3 and messages[-1].role == 'tool'
messages[-1].content is iterable and messages[-1].content is not mapping
messages[2].tool_calls is defined and messages[2].tool_calls is not none
messages[2].get('tool_calls', [])|length
messages[0].get('tool_calls')
messages[0].get('tool_calls') or 'no'
'tool_calls' in messages[2]
messages[2].tool_calls[0]['function']['name']
messages[2].tool_calls[0].function.arguments is mapping
messages[2].tool_calls[0].function.arguments is string
messages[2].tool_calls[0].function.arguments.lr
messages[2].tool_calls[0].function.arguments.whole|int
messages[2].tool_calls[0].function.arguments['n'] + 1
messages[2].tool_calls[0].function.arguments|length
messages[2].tool_calls[0].function.arguments|dictsort|first
messages[2].tool_calls[0]|tojson|replace('"', "'")
1.5|int + 1
x[4]|int
x[7]|int
x[3]|round(8)
x[14] * 3
x[15] + x[15] + x[15]
x[13] // 1
x[5] + 1
100 * 1.1
10 ** 20
10 ** 16 / 1
2 ** 64
-7 // 2.0
7 % -3
1e16 // 1
0.1 * 3 ~ ''
'%.2f'|format(3.14159)
'%d%%'|format(50)
'%5d|%-5d|'|format(42, 42)
'%s and %s'|format('a', [1, 'b'])
'%(x)s-%(y)s'|format(x=1.5, y=none)
'{} {}'.format(1e-05, [1e-05])
'{x}'.format(x={'a': 1e16})
'{:>8}'.format(1.5)
'{:d}'.format(3)
'{:08.3f}'.format(3.14159)
words|join(', ')|title
words|map('lower')|unique|list
words|map('lower')|sort|join
words|select('in', ['a', 'b'])|list
words|reject('equalto', 'a')|list
people|map(attribute='age')|select('>', 1)|list
people|selectattr('name', 'string')|list|length
people|rejectattr('age', 'odd')|map(attribute='name')|first
people|map(attribute='name')|map('upper')|join('/')
people|groupby('city')|length
people|map('items')|map('list')|first
people[0].items()|list
people|min(attribute='age')
lines|indent(2)
lines|indent(2, true, true)
lines.split('\n')|length
'a\n\n'|indent
'x'|indent(2, true)
'abc'|batch(2)|list
'abc'|slice(2)|list
(1, 2)|list
(1, 2)[-1]
((1, 2), 3)|string
{'a': (1,)}
{(1, 2): 'a'}
{1: 'a', '1': 'b'}
{'a': 1, 'a': 2}
[1, 2,]
{'a': 1,}
[*words]
[x for x in words]
words | length
'é'|upper
'straße'|upper
'İ'|lower
'ﬁ'|upper
'ﬁx'|title
'ﬁx'.title()
'ǆx'.capitalize()
'ŉa'.capitalize()
'a1b2'.title()
'éa èb'.title()
'今天 abc'.title()
'x-y_z'.title()
'x-y_z'|title
"they're bill's"|title
"they're bill's".title()
'HELLO wORLD'|title
'HELLO wORLD'.capitalize()
'١'.isdigit()
'一'.isnumeric()
'ª'.isalpha()
'ʰ'.islower()
'Ⅷ'.isupper()
'\u0345'.isalpha()
'a\u0301'.isalpha()
'_'.isalnum()
'a b'.isalpha()
1e-05|safe
x|safe
1e-05 is lower
x is lower
none is upper
'abc'|format(1)
'%s'|format(1, 2)
'%*d'|format(5, 1)
'abc' is odd
'abc' is divisibleby(2)
none is even
true is odd
2.0 is even
""" .strip("\n").split("\n")

# Statements.
TEMPLATES = [
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}|{% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role }}<{{ m.role }}>{{ loop.nextitem.role }} {% endfor %}",
    "{% for m in messages %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for m in words %}{{ loop.cycle('a', 'b') }}{{ loop.changed(m|lower) }} {% endfor %}",
    "{% for m in words if m != 'a' %}{{ loop.index }}{{ loop.last }}{{ m }} {% else %}none{% endfor %}",
    "{% for m in [] %}x{% else %}none{% endfor %}",
    "{% for m in none %}x{% else %}none{% endfor %}",
    "{% for m in nothing %}x{% endfor %}",
    "{% for m in messages[3].none %}x{% endfor %}",
    "{% for m in missing %}x{% else %}none{% endfor %}",
    "{% for m in messages[0].missing %}x{% else %}none{% endfor %}",
    "{% for m in 5 %}x{% endfor %}",
    "{% for m in 'abc' %}{{ m }},{% endfor %}",
    "{% for m in 'äbc' %}{{ m }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.nextitem }},{% endfor %}",
    "{% for m in words|map('upper') %}{{ m }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }},{% endfor %}",
    "{% for k in d %}{{ k }},{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in messages[2].tool_calls[0].function.arguments.items() %}{{ k }}={{ v }}:{{ v|tojson }};{% endfor %}",
    "{% for k, v in messages[2].tool_calls[0].function.arguments|items %}{{ k }}={{ v if v is string else v|tojson }};{% endfor %}",
    "{% for a, b in [[1, 2], [3]] %}{{ a }}{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for m in words %}{% if m == 'A' %}{% continue %}{% endif %}{% if loop.index == 4 %}{% break %}{% endif %}{{ m }}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(2) %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% for i in [1, [2, [3]]] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for x in [1, 2] if x > 1 else [3] %}{{ x }}{% endfor %}",
    "{% for x in ([1] if yes else [2]) %}{{ x }}{% endfor %}",
    "{% for x in 'a' ~ 'b' %}{{ x }}.{% endfor %}",
    "{% for x in words if x ~ '1' == 'A1' %}{{ x }}.{% endfor %}",
    "{% for m in messages %}{% set y = m.role %}{% endfor %}{{ y }}",
    "{% set y = 1 %}{% for m in messages %}{% set y = y + 1 %}{% endfor %}{{ y }}",
    "{% set ns = namespace(a=1, b=[]) %}{% for m in messages %}{% set ns.a = ns.a + 1 %}{% set ns.b = ns.b + [m.role] %}{% endfor %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace() %}{{ ns.nope is defined }}{% set ns.values = [1] %}{{ ns.values }}{% set ns.items = 2 %}{{ ns.items }}",
    "{% set ns = namespace(items=[]) %}{% set ns.items = ns.items + [1] %}{{ ns.items }}",
    "{% set d.a = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a = 'x' ~ 'y' ~ x[0] %}{{ a }}",
    "{% set a %}block {{ 1e-05 }}{% endset %}{{ a }}{{ a|length }}",
    "{% set a | upper %}block{% endset %}{{ a }}",
    "{% if yes %}{% set z = 1 %}{% endif %}{{ z }}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}",
    "{% filter upper %}abc {{ 1e-05 }}{% endfilter %}",
    "{% macro m(a, b=2, c='x' ~ 1) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m() }}{{ m(1, 2, 3) }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body {{ 1e-05 }}{% endcall %}",
    "{% macro m(x) %}[{{ caller(x, 2) }}]{% endmacro %}{% call(a, b) m(1) %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}{{ m.name }}{{ m.arguments }}{% endmacro %}{{ m() }}",
    "{% macro m() %} x {% endmacro %}{{ m()|trim|length }}{{ m() ~ '|' }}{{ m() is string }}",
    "{% set y = 1 %}{% macro m() %}{{ y }}{% endmacro %}{% set y = 2 %}{{ m() }}",
    "{% macro outer(n) %}{% if n > 0 %}{{ n }}{{ outer(n - 1) }}{% endif %}{% endmacro %}{{ outer(3) }}",
    "{% macro m(a) %}{% set ns = namespace(v=0) %}{% for i in range(a) %}{% set ns.v = ns.v + i %}{% endfor %}{{ ns.v }}{% endmacro %}{{ m(4)|int + 1 }}",
    "{% generation %}{% set inner = 1 %}x{% endgeneration %}{{ inner }}",
    "{% for m in messages %}{% generation %}{{ m.role }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{%- generation -%} a {%- endgeneration -%} b",
    "{% raw %}{{ x }} {% if %} ~ {% generation %}{% endraw %}",
    "{# {% if %} ~ {{ #}a{#- b -#} c",
    "a\n{% if yes %}\nb\n{% endif %}\nc\n",
    "a\n  {% if yes %}\n  b\n  {%- endif %}\n  c\n\n",
    "  {%+ if yes %}x{%+ endif %}\n",
    "  {{ 1 }}  \n  {{- 2 }}\n",
    "{{ 1 -}}   x   {{- 2 }}",
    "{% if yes -%}  a  {%- endif %}",
    "  {# c #}\nx\n  {#- c #}\ny",
    "a {#+ c +#} b\n  {#+ c #}\n {# a\n b #}\nc {#- {{ x }} -#}  d{##}e",
    "{#- first -#}\n\n{% set y = 1 %}\n{# second #}\n{{ y }}",
    "{% for m in words -%}\n  {#- note #}\n  {{ m }}\n{% endfor %}",
    "{{ 'a' }}\n",
    "{{ 'a' }}\n\n",
    "a{% if yes %}   \nb{% endif %}",
    "{%if yes%}a{%endif%}{{x[0]}}",
    "{{- 'a' -}}\n  {{- 'b' -}}  \n",
    "{% if x[0] ~ 'a' == '1e-05a' %}yes{% elif 'a' ~ 'b' %}no{% endif %}",
    "{% if missing %}a{% elif nothing %}b{% elif blank %}c{% elif empty %}d{% elif 0 %}e{% elif 0.0 %}f{% else %}g{% endif %}",
    "{% if d.items %}a{% else %}b{% endif %}{% if d.values %}a{% else %}b{% endif %}{% if messages[0].keys %}c{% endif %}",
    "{% for p in [{'type': 'array', 'items': {'type': 'string'}}] %}{% if p.items %}{{ p['items'].type }}{% endif %}{% endfor %}",
    "{{ {'items': {'type': 's'}}.items.type }}",
    "{% for k, v in {'items': 1, 'get': 2, 'keys': 3}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'get': 1}.get('get') }}{{ {'keys': 1}.keys()|list }}{{ {'values': 1}.values()|list }}",
    "{% block a %}x{% endblock %}{{ self.a() }}",
    "{% include 'x' %}",
    "{% include 'x' ignore missing %}y",
    "{% do 1 %}",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "{% unknown %}",
    "{{ 'a'|unknown }}",
    "{% if no %}{{ 'a'|unknown }}{% endif %}b",
    "{{ 'a' is unknown }}",
    "{{ unknown() }}",
    "{% if yes %}",
    "{{ x",
    "{{ }}",
    "{{ 1 2 }}",
    "{% print 'a' ~ 1e-05 %}",
    "{% set s = '' %}{% for m in messages %}{% set s = s ~ m.role %}{% endfor %}{{ s }}|",
    "{% set tools = none %}{{ tools is none }}{{ tools }}",
    "{{ messages[0].content + messages[1].role }}{{ messages[0]['content'].strip() + '\\n' }}",
    "{{ messages[3].content + 'x' }}",
    "{{ messages[2].content.split('</think>')[-1].lstrip('\\n') }}|",
    "{% for c in messages[3].content %}{% if c.type == 'text' %}{{ c.text }}{% elif c is string %}{{ c }}{% endif %}{% endfor %}",
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + (m['content'] if m['content'] is string else m['content'][0]['text']) }}{% endfor %}",
    "{% for m in messages|reverse %}{{ m.role }}{% endfor %}",
    "{% for m in messages[1:]|selectattr('role', 'in', ['user', 'tool']) %}{{ m.role }}{{ loop.last }}{% endfor %}",
    "{% for group in people|groupby('city') %}{{ group.grouper }}:{% for p in group.list %}{{ p.name }}{% endfor %};{% endfor %}",
    "{% for city, ps in people|groupby('city') %}{{ city }}{{ ps|length }}{% endfor %}",
    "{% for b in words|batch(4, '-') %}{{ b|join }}|{% endfor %}",
    "{{ '\\n' }}{{ \"\\t\" }}|{{ '\\\\' }}",
    "{{ \"a\nb\" }}",
    "a\r\nb\rc{{ 'x\r\ny' }}\r\n",
    "{% if yes %}\r\n  a\r\n{% endif %}\r\nb",
    "{{ messages }}",
    "{{ messages|tojson(indent=4) }}",
    "{{ messages[1]|tojson(ensure_ascii=true) }}",
    "{{ [x[0]] ~ '' }}{{ (x[0], 'a') ~ '' }}{{ {'k': x[0]} ~ '' }}",
    "{% set it = words|map('upper') %}{{ it|list }}{{ it|list }}",
    "{% set it = d.items() %}{{ it|list|length }}{{ it|list|length }}",
    "{{ (words|map('upper'))[0] }}",
    "{{ words|map('upper')|length }}",
    "{{ (words|map('upper')) ~ '' }}",
    "{{ (words|select('string'))|first }}{{ words|map('upper')|first }}",
    "{% if words|select('equalto', 'zzz') %}a{% endif %}",
    "{% if words|map('upper') %}a{% endif %}{% if []|map('upper') %}b{% endif %}",
    "{{ messages|selectattr('role', 'equalto', 'nope') is iterable }}",
    "{{ 'x' if messages|selectattr('role', 'equalto', 'nope')|list else 'y' }}",
    "{% set a = [1, 2] %}{% set b = a %}{{ a is sameas b }}{{ [1] is sameas [1] }}",
    "{% for i in range(2) %}{{ loop }}{% endfor %}",
    "{{ '{}'.format('<b>') }}{{ ('<i>'|safe).format() }}{{ ('<i>{}'|safe).format('<b>') }}",
    "{{ ('<i>'|e) + '<b>' }}{{ ('<i>'|e)|upper }}{{ ('a<'|e)|replace('a', '<') }}",
    "{% set x %}<b>{% endset %}{{ x ~ '<i>' }}{{ x + '<i>' }}",
    "{% macro m() %}<b>{% endmacro %}{{ m() ~ '<i>' }}{{ m() + '<i>' }}{{ m()|replace('b', '<') }}",
]


def main():
    cases = []
    for source in [f"{{{{ {expression} }}}}" for expression in EXPRESSIONS if expression] + TEMPLATES:
        try:
            texts, _ = render_jinja_template([MESSAGES], chat_template=source, add_generation_prompt=False, **VARIABLES)
            cases.append([source, texts[0]])
        except Exception:
            cases.append([source, None])
    # Addresses and random parts differ from run to run.
    cases = [case for case in cases if " at 0x" not in (case[1] or "")]
    head = json.dumps({"messages": MESSAGES, "variables": VARIABLES}, ensure_ascii=True)
    body = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    path = Path(__file__).parent / "jinja.json"
    path.write_text(f"{head[:-1]}, \"cases\": [\n{body}\n]}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
