use tch::Tensor;

/// The inputs of an attention. Their shapes depend on the implementation; see [`crate::flash`] and
/// [`crate::cudnn`].
#[derive(Debug, Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// Queries.
    pub query: &'a Tensor,
    /// Keys.
    pub key: &'a Tensor,
    /// Values.
    pub value: &'a Tensor,
}
