use super::Pattern;

fn matches(pattern: &str, name: &str) -> bool {
    Pattern::new(pattern).is_some_and(|pattern| pattern.matches(name))
}

#[test]
fn parts_match_as_in_a_shell() {
    for (pattern, path, expected) in [
        ("*.csv", "a.csv", true),
        ("*.csv", "folder/a.csv", false),
        ("**/*.csv", "a.csv", true),
        ("**/*.csv", "x/y/a.csv", true),
        ("**", "x/y/a.csv", true),
        ("data/**", "data/x/a", true),
        ("data/**", "data", false),
        ("data/train-*", "data/train-00000-of-00001.parquet", true),
        ("data/train-*", "data/test-00000-of-00001.parquet", false),
        ("./a?c", "abc", true),
        ("[!a]bc", "abc", false),
        ("[!a]bc", "bbc", true),
        ("[a-c]x", "bx", true),
        ("[a-c]x", "dx", false),
        ("[-._ 0-9]x", "-x", true),
        ("[-._ 0-9]x", "7x", true),
        ("[-._ 0-9]x", "ax", false),
        ("[]]", "]", true),
        ("[", "[", true),
        ("a[b", "a[b", true),
        ("**/train/**", "train", false),
        ("**/train/**", "train/a", true),
        ("**/train/**", "x/train/y/z", true),
        ("中*", "中文", true),
        ("", "a", false),
        ("**/**/a", "a", true),
        ("**/b/**/c", "a/b/b/x/c", true),
        ("**/b/**/c", "a/b/b/x/d", false),
        ("*ab*ac", "xababac", true),
        ("a*", "a", true),
        ("?文", "中文", true),
        ("[中国]文", "中文", true),
        ("[!中]文", "中文", false),
        ("{a,b}", "a", false),
        ("{a,b}", "{a,b}", true),
        ("[{]b}", "{b}", true),
        ("[!{]}", "x}", true),
        ("[]{]", "{", true),
        ("[{", "[{", true),
        ("a\\*", "a\\b", true),
        ("a**b", "a/b", false),
        ("[z-a]", "z", false),
        ("a//./b", "a/b", true),
    ] {
        assert_eq!(matches(pattern, path), expected, "{pattern:?} over {path:?}");
    }
}

/// Anyone can write a dataset card.
#[test]
fn no_pattern_takes_long() {
    let (stars, folders) = ("*a".repeat(100) + "b", "**/a/".repeat(100) + "b");
    assert!(!matches(&stars, &"a".repeat(255)));
    assert!(!matches(&folders, &"a/".repeat(255)));
    // These would take minutes to compile.
    let started = std::time::Instant::now();
    for unit in ["*a", "[!a]", "**/", "abcd"] {
        assert!(!matches(&unit.repeat(1_000_000), "abcd"));
        assert!(!matches(&(unit.repeat(1000) + "x"), "b"));
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
