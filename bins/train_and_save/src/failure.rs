//! Which exit code an error means.

/// Marks an error as found before training: bad arguments, configuration or input.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A usage error from its text.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(message.into()))
    }

    /// Marks any error as a usage error, its causes joined in one line.
    pub fn before_training(error: impl Into<anyhow::Error>) -> anyhow::Error {
        Self::usage(one_line(&error.into()))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// 2 for what was found before training, 1 for everything later.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Failure>() { 2 } else { 1 }
}

/// The error and its causes in one line; libtorch's own back-traces are left out.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.split("Exception raised from").next().unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // Some errors hold the text of their source already.
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_joined_once_and_on_one_line() {
        let error = std::io::Error::other("disk\n gone");
        let error = anyhow::Error::new(error).context("cannot write a: disk\n gone").context("saving");
        assert_eq!(one_line(&error), "saving: cannot write a: disk gone");
        let torch =
            anyhow::anyhow!("out of memory\nException raised from malloc at a.cpp:1\nframe #0").context("step 3");
        assert_eq!(one_line(&torch), "step 3: out of memory");
        let usage: anyhow::Result<()> = Err(Failure::before_training(torch)).context("more");
        assert_eq!(exit_code(&usage.unwrap_err()), 2);
    }
}
