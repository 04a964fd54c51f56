//! The compact header. Java: `protocol/RocketMQSerializable.java`.
//!
//! Code `i16`, language `u8`, version `i16`, opaque `i32`, flag `i32`, remark length `i32` and remark, fields length
//! `i32` and fields.

use bytes::{Buf, BufMut, Bytes};

use super::{Encoding, FieldWriter, Head, HeaderError, HeaderFields};
use crate::fields::{Fields, split_block};
use crate::{ByteString, Language, Opaque, Version};

const FIXED_LEN: usize = 2 + 1 + 2 + 4 + 4;

pub(super) fn decode(mut header: Bytes) -> Result<(Head, Fields), HeaderError> {
    let len = header.len();
    let cut = HeaderError::Compact { len };
    if len < FIXED_LEN {
        return Err(cut);
    }
    let code = i32::from(header.get_i16());
    let language = Language::new(header.get_u8());
    let version = Version::new(i32::from(header.get_i16()));
    let opaque = Opaque::new(header.get_i32());
    let flag = header.get_i32();
    let remark = block(&mut header).ok_or(cut.clone())?;
    let remark = match remark.is_empty() {
        true => None,
        false => Some(ByteString::from_utf8(remark).map_err(|_| HeaderError::Utf8)?),
    };
    let fields = block(&mut header).ok_or(cut.clone())?;
    let fields = Fields::checked(fields).map_err(|_| cut)?;
    Ok((Head { code, language, version, opaque, flag, remark }, fields))
}

fn block(header: &mut Bytes) -> Option<Bytes> {
    let len = header.try_get_i32().ok()?;
    split_block(header, usize::try_from(len).ok()?)
}

pub(super) fn encode(out: &mut Vec<u8>, head: &Head, fields: &dyn HeaderFields) {
    let remark = head.remark.as_deref().unwrap_or_default();
    out.reserve(FIXED_LEN + 4 + remark.len() + 4);
    out.put_i16(i16::try_from(head.code).unwrap_or_default()); // `Encoding::able_to_carry` has looked
    out.put_u8(head.language.get());
    out.put_i16(i16::try_from(head.version.get()).unwrap_or(i16::MAX));
    out.put_i32(head.opaque.get());
    out.put_i32(head.flag);
    out.put_u32(u32::try_from(remark.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(remark.as_bytes());
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fields.write_fields(&mut FieldWriter::new(out, Encoding::Compact));
    let fields_len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start..start + 4) {
        slot.copy_from_slice(&fields_len.to_be_bytes());
    }
}

pub(super) fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(2 + name.len() + 4 + value.len());
    let value_len = u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes();
    if let &[letter] = name.as_bytes() {
        // Each of a send's many fields: one copy of a length that the compiler knows.
        let [first, second, third, fourth] = value_len;
        out.extend_from_slice(&[0, 1, letter, first, second, third, fourth]);
    } else {
        out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&value_len);
    }
    out.extend_from_slice(value);
}
