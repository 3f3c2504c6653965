use super::*;
use crate::testing::{Random, golden_path};
use crate::{PackingStrategy, PromptCompletion, Turn};

fn tokenizer() -> ChatTokenizer {
    ChatTokenizer::from_dir(&golden_path("tokenizers/qwen")).unwrap()
}

fn rows() -> Vec<Row> {
    let turn = |text: &str| Turn::Text(text.to_owned());
    let answer = PromptCompletion { prompt: turn("one "), completion: turn("two three"), context: Default::default() };
    vec!["a text".into(), "".into(), answer.into(), "another text, which is longer".into()]
}

fn cache(folder: &Path) -> TokenCache {
    TokenCache::new(folder, ByteSize(1 << 30)).min_rows(1)
}

/// The files in the cache.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn configs() -> [PrepareConfig; 3] {
    let packed = |packing_strategy| PrepareConfig {
        packing: true,
        packing_strategy,
        max_length: Some(6),
        ..PrepareConfig::default()
    };
    [PrepareConfig::default(), packed(PackingStrategy::BestFitDecreasingSplit), packed(PackingStrategy::Wrapped)]
}

#[test]
fn what_is_found_is_what_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, tokenizer) = (cache(folder.path()), tokenizer());
    for (number, config) in configs().iter().enumerate() {
        let made = cache.prepare(rows(), &tokenizer, config).unwrap();
        assert_eq!(made, prepare(rows(), &tokenizer, config).unwrap());
        let kept = files(folder.path());
        assert_eq!(kept.len(), number + 1);
        assert_eq!(cache.prepare(rows(), &tokenizer, config).unwrap(), made);
        assert_eq!(files(folder.path()), kept);
    }
}

/// The examples come from the file, so a file with others gives these.
#[test]
fn a_hit_does_not_tokenize() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, tokenizer, config) = (cache(folder.path()), tokenizer(), PrepareConfig::default());
    let mut made = cache.prepare(rows(), &tokenizer, &config).unwrap();
    made.examples[0].input_ids[0] ^= 1;
    file::write(&made, File::create(&files(folder.path())[0]).unwrap()).unwrap();
    assert_eq!(cache.prepare(rows(), &tokenizer, &config).unwrap(), made);
}

#[test]
fn anything_else_has_a_place_of_its_own() {
    let tokenizers = golden_path("tokenizers");
    let (cache, tokenizer, config) = (cache(Path::new("none")), tokenizer(), PrepareConfig::default());
    let mut keys = vec![cache.key(&rows(), &tokenizer, &config)];
    let mut add = |key: String| {
        assert!(!keys.contains(&key), "{key}");
        keys.push(key);
    };
    for config in &configs()[1..] {
        add(cache.key(&rows(), &tokenizer, config));
    }
    for (index, row) in [(0, "a texts"), (1, " "), (2, "one two three")] {
        let mut rows = rows();
        rows[index] = row.into();
        add(cache.key(&rows, &tokenizer, &config));
    }
    // Where one text ends and the next begins.
    add(cache.key(&["ab".into(), "c".into()], &tokenizer, &config));
    add(cache.key(&["a".into(), "bc".into()], &tokenizer, &config));
    let other = fs::read_dir(&tokenizers).unwrap().map(|entry| entry.unwrap().path());
    let other = other.filter(|path| !path.ends_with("qwen")).find_map(|path| ChatTokenizer::from_dir(&path).ok());
    add(cache.key(&rows(), &other.unwrap(), &config));
    add(cache.clone().keyed_by("options".into()).key(&rows(), &tokenizer, &config));
    assert_eq!(cache.key(&rows(), &tokenizer, &config), keys[0]);
}

#[test]
fn a_damaged_file_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, tokenizer) = (cache(folder.path()), tokenizer());
    let config = &configs()[1];
    let made = cache.prepare(rows(), &tokenizer, config).unwrap();
    let path = files(folder.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    let mut random = Random(7);
    for case in 0..whole.len() + 300 {
        let mut bytes = whole.clone();
        match case {
            // Every byte once, then cuts and additions.
            case if case < bytes.len() => bytes[case] ^= 1 << random.below(8),
            case if case % 2 == 0 => bytes.truncate(random.below(whole.len())),
            _ => bytes.insert(random.below(whole.len()), random.below(256) as u8),
        }
        fs::write(&path, &bytes).unwrap();
        let error = file::read(&path).unwrap_err();
        assert!(!error.to_string().contains('\n'));
    }
    assert_eq!(cache.prepare(rows(), &tokenizer, config).unwrap(), made);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn the_oldest_files_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, tokenizer, config) = (cache(folder.path()), tokenizer(), PrepareConfig::default());
    let keep = |cache: &TokenCache, text: &str| cache.prepare(vec![Row::from(text)], &tokenizer, &config).unwrap();
    let name =
        |text: &str| folder.path().join(format!("{}.{EXTENSION}", cache.key(&[text.into()], &tokenizer, &config)));
    for (age, text) in [(30, "one text"), (20, "two text"), (10, "six text")] {
        keep(&cache, text);
        let file = File::options().append(true).open(name(text)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    // Used again, so it is the newest.
    keep(&cache, "one text");
    fs::write(folder.path().join("other"), vec![0; 1000]).unwrap();
    let stale = folder.path().join(format!("{UNFINISHED}stale"));
    File::create(&stale).unwrap().set_modified(SystemTime::now() - 2 * LONGEST_WRITE).unwrap();
    let size = fs::metadata(name("one text")).unwrap().len();
    let small = TokenCache { max_bytes: ByteSize(3 * size + size / 2), ..cache.clone() };
    keep(&small, "ten text");
    let is_there = ["one text", "two text", "six text", "ten text"].map(|text| name(text).exists());
    assert_eq!(is_there, [true, false, true, true]);
    assert!(folder.path().join("other").exists() && !stale.exists());
    // A limit that nothing fits into keeps what was just written.
    keep(&TokenCache { max_bytes: ByteSize(1), ..cache }, "new text");
    assert_eq!(files(folder.path()).len(), 2);
}

#[test]
fn two_at_once_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, tokenizer, config) = (cache(folder.path()), tokenizer(), PrepareConfig::default());
    let expected = prepare(rows(), &tokenizer, &config).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(cache.prepare(rows(), &tokenizer, &config).unwrap(), expected);
                    // Another thread may have removed it already.
                    files(folder.path()).first().map(fs::remove_file);
                }
            });
        }
    });
    assert!(files(folder.path()).iter().all(|path| path.extension().is_some_and(|extension| extension == EXTENSION)));
}

#[test]
fn a_folder_that_cannot_be_written_is_no_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let cache = cache(file.path());
    let tokenizer = tokenizer();
    assert_eq!(cache.prepare(rows(), &tokenizer, &PrepareConfig::default()).unwrap().report.rows, 4);
}
