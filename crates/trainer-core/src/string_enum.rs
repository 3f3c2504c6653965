//! Enums that are spelled as strings at the borders.

/// Why a string is not one of an enum's names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{found}`: use one of {}", names.join(", "))]
pub struct UnknownName {
    /// What was being parsed.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// What would do.
    pub names: &'static [&'static str],
}

/// Declares an enum with one name a variant, used by serde, `FromStr` and `Display` alike.
macro_rules! string_enum {
    ($(#[$meta:meta])* $what:literal $type:ident { $($(#[$variant_meta:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $type {
            $($(#[$variant_meta])* #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            /// All names, in the order of the variants.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The name in flags and files.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::UnknownName;

            fn from_str(found: &str) -> Result<Self, Self::Err> {
                match found {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(crate::UnknownName { what: $what, found: found.to_owned(), names: Self::NAMES }),
                }
            }
        }
    };
}

pub(crate) use string_enum;
