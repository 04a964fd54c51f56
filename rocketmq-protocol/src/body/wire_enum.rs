//! The enums in bodies, which go by name.

/// Declares an enum with the wire's name of each variant, in Java's order: the C++ client sends the ordinal instead of the
/// name, which fastjson reads too. A name after `|` is read, never printed.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal $(| $alias:literal)*,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The variant of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text $(| $alias)* => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct NameOrOrdinal;

                impl serde::de::Visitor<'_> for NameOrOrdinal {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("one of", $(" ", $text),*))
                    }

                    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<$name, E> {
                        $name::from_name(name).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(name), &self))
                    }

                    fn visit_u64<E: serde::de::Error>(self, ordinal: u64) -> Result<$name, E> {
                        [$($name::$variant),*]
                            .into_iter()
                            .nth(usize::try_from(ordinal).unwrap_or(usize::MAX))
                            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(ordinal), &self))
                    }
                }

                deserializer.deserialize_any(NameOrOrdinal)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::body::{ConsumeType, MessageModel};
    use crate::json::from_slice;

    #[test]
    fn an_enum_is_read_by_name_or_ordinal() {
        assert_eq!(from_slice::<ConsumeType>(br#""CONSUME_POP""#).unwrap(), ConsumeType::Pop);
        assert_eq!(from_slice::<ConsumeType>(b"0").unwrap(), ConsumeType::Actively);
        assert_eq!(from_slice::<MessageModel>(b"1").unwrap(), MessageModel::Clustering);
        for text in [r#""POP""#, "2", "-1", "1e3"] {
            assert!(from_slice::<MessageModel>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
