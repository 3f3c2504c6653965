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
        Self::usage(format!("{:#}", error.into()))
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
