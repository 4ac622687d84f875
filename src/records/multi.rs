//! `multi` and `multiRead`: lists of operations and of their results, each behind a header, ended by a marker.

use super::request::op;
use super::{CreateRequest, CreateTtlRequest, PathVersion, PathWatch, SetDataRequest, Stat};
use crate::jute::{DecodeError, Reader, Record, record, write_string};

record! {
    /// Header of each element; readers look only at `kind` and `done`.
    MultiHeader { kind: i32, done: bool, err: i32 }
}

/// The end marker of both lists.
const END: MultiHeader = MultiHeader { kind: -1, done: true, err: -1 };

/// One operation of a multi (the writes and `check`) or a multiRead (getData, getChildren).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiOp {
    Create(CreateRequest),
    Create2(CreateRequest),
    CreateContainer(CreateRequest),
    CreateTtl(CreateTtlRequest),
    Delete(PathVersion),
    SetData(SetDataRequest),
    Check(PathVersion),
    GetData(PathWatch),
    GetChildren(PathWatch),
}

/// The body of multi and multiRead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiRequest {
    pub ops: Vec<MultiOp>,
}

impl MultiOp {
    pub fn op(&self) -> i32 {
        match self {
            MultiOp::Create(_) => op::CREATE,
            MultiOp::Create2(_) => op::CREATE2,
            MultiOp::CreateContainer(_) => op::CREATE_CONTAINER,
            MultiOp::CreateTtl(_) => op::CREATE_TTL,
            MultiOp::Delete(_) => op::DELETE,
            MultiOp::SetData(_) => op::SET_DATA,
            MultiOp::Check(_) => op::CHECK,
            MultiOp::GetData(_) => op::GET_DATA,
            MultiOp::GetChildren(_) => op::GET_CHILDREN,
        }
    }

    pub fn is_read(&self) -> bool {
        matches!(self, MultiOp::GetData(_) | MultiOp::GetChildren(_))
    }

    fn read(kind: i32, from: &mut Reader<'_>) -> Result<MultiOp, DecodeError> {
        Ok(match kind {
            op::CREATE => MultiOp::Create(Record::read(from)?),
            op::CREATE2 => MultiOp::Create2(Record::read(from)?),
            op::CREATE_CONTAINER => MultiOp::CreateContainer(Record::read(from)?),
            op::CREATE_TTL => MultiOp::CreateTtl(Record::read(from)?),
            op::DELETE => MultiOp::Delete(Record::read(from)?),
            op::SET_DATA => MultiOp::SetData(Record::read(from)?),
            op::CHECK => MultiOp::Check(Record::read(from)?),
            op::GET_DATA => MultiOp::GetData(Record::read(from)?),
            op::GET_CHILDREN => MultiOp::GetChildren(Record::read(from)?),
            _ => {
                return Err(DecodeError::Unknown { what: "operation of a multi", value: kind.into() });
            }
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            MultiOp::Create(body) | MultiOp::Create2(body) | MultiOp::CreateContainer(body) => body.write(out),
            MultiOp::CreateTtl(body) => body.write(out),
            MultiOp::Delete(body) | MultiOp::Check(body) => body.write(out),
            MultiOp::SetData(body) => body.write(out),
            MultiOp::GetData(body) | MultiOp::GetChildren(body) => body.write(out),
        }
    }
}

impl Record for MultiRequest {
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut ops = Vec::new();
        loop {
            let header = MultiHeader::read(from)?;
            if header.done {
                return Ok(MultiRequest { ops });
            }
            ops.push(MultiOp::read(header.kind, from)?);
        }
    }
    fn write(&self, out: &mut Vec<u8>) {
        for each in &self.ops {
            MultiHeader { kind: each.op(), done: false, err: -1 }.write(out);
            each.write(out);
        }
        END.write(out);
    }
}

/// One result of a multi or multiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiResult {
    Create {
        path: String,
    },
    /// Of createContainer, createTTL and (from 3.8.2 on) create2.
    Create2 {
        path: String,
        stat: Stat,
    },
    Delete,
    SetData {
        stat: Stat,
    },
    Check,
    GetData {
        data: Option<Vec<u8>>,
        stat: Stat,
    },
    GetChildren {
        children: Vec<String>,
    },
    /// 0 for the operations before the one that failed, whose code this is; -2 for those after it.
    Error {
        code: i32,
    },
}

/// The reply body of multi and multiRead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiResponse {
    pub results: Vec<MultiResult>,
}

impl Record for MultiResponse {
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut results = Vec::new();
        loop {
            let header = MultiHeader::read(from)?;
            if header.done {
                return Ok(MultiResponse { results });
            }
            results.push(match header.kind {
                op::CREATE => MultiResult::Create { path: Record::read(from)? },
                op::CREATE2 => MultiResult::Create2 { path: Record::read(from)?, stat: Record::read(from)? },
                op::DELETE => MultiResult::Delete,
                op::SET_DATA => MultiResult::SetData { stat: Record::read(from)? },
                op::CHECK => MultiResult::Check,
                op::GET_DATA => MultiResult::GetData { data: Record::read(from)?, stat: Record::read(from)? },
                op::GET_CHILDREN => MultiResult::GetChildren { children: Record::read(from)? },
                op::ERROR => MultiResult::Error { code: from.int()? },
                kind => {
                    return Err(DecodeError::Unknown { what: "result of a multi", value: kind.into() });
                }
            });
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.results.iter().for_each(|result| result.write(out));
        MultiResult::write_end(out);
    }
}

impl MultiResult {
    /// Appends the result with its header.
    pub fn write(&self, out: &mut Vec<u8>) {
        let head = |kind, err, out: &mut Vec<u8>| MultiHeader { kind, done: false, err }.write(out);
        match self {
            MultiResult::Create { path } => {
                head(op::CREATE, 0, out);
                write_string(path, out);
            }
            MultiResult::Create2 { path, stat } => {
                head(op::CREATE2, 0, out);
                write_string(path, out);
                stat.write(out);
            }
            MultiResult::Delete => head(op::DELETE, 0, out),
            MultiResult::SetData { stat } => {
                head(op::SET_DATA, 0, out);
                stat.write(out);
            }
            MultiResult::Check => head(op::CHECK, 0, out),
            MultiResult::GetData { data, stat } => {
                head(op::GET_DATA, 0, out);
                data.write(out);
                stat.write(out);
            }
            MultiResult::GetChildren { children } => {
                head(op::GET_CHILDREN, 0, out);
                children.write(out);
            }
            MultiResult::Error { code } => {
                head(op::ERROR, *code, out);
                code.write(out);
            }
        }
    }

    /// Appends what is behind the last result.
    pub fn write_end(out: &mut Vec<u8>) {
        END.write(out);
    }
}
