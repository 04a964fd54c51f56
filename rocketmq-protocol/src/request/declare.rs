//! The macros that turn one declaration into everything a request needs.

use super::PayloadError;
use crate::FieldValue;

/// What comes of a value that the declaration does not allow.
#[cold]
pub(crate) fn unreadable(
    field: &'static str,
    value: FieldValue<'_>,
    expected: &'static str,
) -> Result<(), PayloadError> {
    // The compact encoding cannot tell an empty value from an absent one.
    if value.as_bytes().is_empty() {
        return Ok(());
    }
    let value = String::from_utf8_lossy(value.as_bytes()).chars().take(64).collect();
    Err(PayloadError::Malformed { field, value, expected })
}

/// Declares requests. For each: code, header fields with their wire names (more than one where old peers use
/// another) and defaults, body, the codes that accept it, and fields and body of the reply.
///
/// ```text
/// requests! {
///     /// Largest offset of a queue. Java: `protocol/header/GetMaxOffsetRequestHeader.java`.
///     GetMaxOffset = GET_MAX_OFFSET {
///         topic: ByteString => "topic",
///         committed: bool => "committed" or true,
///     } -> GetMaxOffsetReply {
///         offset: QueueOffset => "offset",
///     };
/// }
/// ```
///
/// A reply without braces is one that was declared before; [`Done`] carries nothing.
/// A body is declared as `body(NAME: TYPE)` after the fields; codes beside `SUCCESS` that accept, as `accepts [CODE, …]`
/// before the arrow. Fields of type [`Option`] may be absent.
macro_rules! requests {
    ($(
        $(#[$doc:meta])*
        $name:ident = $code:ident {
            $( $(#[$field_doc:meta])* $field:ident: $type:ty => $wire:literal $(| $alias:literal)* $(or $default:expr)?, )*
        } $(body($body:ident: $body_type:ty))?
        $(accepts [$($accepted:ident),*])?
        -> $reply:ident $({
            $( $(#[$reply_field_doc:meta])* $reply_field:ident: $reply_type:ty => $reply_wire:literal $(or $reply_default:expr)?, )*
        } $(body($reply_body:ident: $reply_body_type:ty))?)? ;
    )*) => {
        $(
            $crate::request::payload! {
                $(#[$doc])*
                $name {
                    $( $(#[$field_doc])* $field: $type => $wire $(| $alias)* $(or $default)?, )*
                } $(body($body: $body_type))?
            }

            $($crate::request::payload! {
                #[doc = concat!("Answer to [`", stringify!($name), "`].")]
                $reply {
                    $( $(#[$reply_field_doc])* $reply_field: $reply_type => $reply_wire $(or $reply_default)?, )*
                } $(body($reply_body: $reply_body_type))?
            })?

            impl $crate::request::Request for $name {
                const CODE: $crate::RequestCode = $crate::RequestCode::$code;
                const ACCEPTS: &'static [$crate::ResponseCode] =
                    &[$crate::ResponseCode::SUCCESS $($(, $crate::ResponseCode::$accepted)*)?];
                type Reply = $reply;
            }
        )*

        #[cfg(test)]
        pub(crate) const ROUND_TRIPS: &[$crate::request::sample::RoundTrip] =
            &[$($crate::request::sample::round_trip::<$name>),*];
    };
}
pub(crate) use requests;

/// Declares one direction of an exchange; see [`requests!`].
macro_rules! payload {
    (
        $(#[$doc:meta])*
        $name:ident {
            $( $(#[$field_doc:meta])* $field:ident: $type:ty => $wire:literal $(| $alias:literal)* $(or $default:expr)?, )*
        } $(body($body:ident: $body_type:ty))?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)] // a field is documented where its name does not say all
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $type, )*
            $( pub $body: $body_type, )?
        }

        impl $crate::HeaderFields for $name {
            fn write_fields(&self, _out: &mut $crate::FieldWriter<'_>) {
                $( $crate::request::Field::write(&self.$field, $wire, _out); )*
            }
        }

        impl $crate::request::Payload for $name {
            fn body(&self) -> $crate::request::Segments {
                $( return $crate::request::Body::to_segments(&self.$body); )?
                #[allow(unreachable_code)]
                $crate::request::Segments::Empty
            }

            fn read(_frame: &$crate::Frame) -> Result<Self, $crate::request::PayloadError> {
                $( let mut $field: Option<$type> = None; )*
                // Constants in patterns become one decision tree, comparisons in a row would not.
                #[allow(non_upper_case_globals)]
                mod wire {
                    $( pub(super) const $field: &[u8] = $wire.as_bytes(); )*
                }
                for (_name, _value) in _frame.fields.pairs() {
                    match _name {
                        $( wire::$field => $crate::request::read_field!($field: $type, $wire, _value), )*
                        _ => {
                            $($( if _name == $alias.as_bytes() {
                                $crate::request::read_field!($field: $type, $wire, _value);
                            } )*)*
                        }
                    }
                }
                Ok(Self {
                    $( $field: match $field {
                        Some(value) => value,
                        None => $crate::request::absent!($type, $wire $(, $default)?),
                    }, )*
                    $( $body: <$body_type as $crate::request::Body>::from_bytes(_frame.body.clone())
                        .map_err(|source| $crate::request::PayloadError::Body { len: _frame.body.len(), source })?, )?
                })
            }
        }

        #[cfg(test)]
        impl $crate::request::sample::Sample for $name {
            fn sample(_source: &mut $crate::request::sample::Source) -> Self {
                Self {
                    $( $field: $crate::request::sample::Sample::sample(_source), )*
                    $( $body: <$body_type as $crate::request::sample::Sample>::sample(_source), )?
                }
            }
        }
    };
}
pub(crate) use payload;

/// Reads one field as the declaration says. No function: the result that it would return is copied for each field.
macro_rules! read_field {
    ($field:ident: $type:ty, $wire:literal, $value:ident) => {
        match <$type as $crate::request::Field>::read($value) {
            Some(value) => $field = Some(value),
            None => $crate::request::unreadable($wire, $value, <$type as $crate::request::Field>::EXPECTED)?,
        }
    };
}
pub(crate) use read_field;

macro_rules! absent {
    ($type:ty, $wire:literal, $default:expr) => {
        $default
    };
    ($type:ty, $wire:literal) => {
        <$type as $crate::request::Field>::absent()
            .ok_or($crate::request::PayloadError::Missing { field: $wire })?
    };
}
pub(crate) use absent;

/// Declares a request with the fields, body and reply of another one under its own code.
macro_rules! same_shape {
    ($($(#[$doc:meta])* $name:ident = $code:ident as $inner:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name(pub $inner);

        impl $crate::HeaderFields for $name {
            fn write_fields(&self, out: &mut $crate::FieldWriter<'_>) {
                self.0.write_fields(out);
            }
        }

        impl $crate::request::Payload for $name {
            fn body(&self) -> $crate::request::Segments {
                self.0.body()
            }

            fn read(frame: &$crate::Frame) -> Result<Self, $crate::request::PayloadError> {
                $inner::read(frame).map(Self)
            }
        }

        impl $crate::request::Request for $name {
            const CODE: $crate::RequestCode = $crate::RequestCode::$code;
            const ACCEPTS: &'static [$crate::ResponseCode] = <$inner as $crate::request::Request>::ACCEPTS;
            type Reply = <$inner as $crate::request::Request>::Reply;
        }
    )*};
}
pub(crate) use same_shape;
