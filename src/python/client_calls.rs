//! What goes in and out of a call: Python's arguments as a borrowed [`Call`](crate::client::Call), a server's answer
//! as the object that the future resolves to.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySequence, PyString, PyTuple};

use super::client_errors;
use super::stat::Stat;
use crate::client::{CreateMode, Failure, ReadOp, WriteOp};
use crate::records::{self, Acl, ErrorCode, Id, MultiResult, Response, op};

/// A call that waits for its answer.
pub(super) struct Waiting {
    pub(super) future: Py<PyAny>,
    /// For the message of an error: the caller's own object; a tuple of them for the parts of a multi.
    pub(super) path: Option<Py<PyAny>>,
    pub(super) answer: Answer,
}

/// What the caller wants of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What the server sent, all of it.
    Whole,
    /// Of a create: the path alone, although a container's or a TTL node's comes with a stat.
    PathOnly,
    /// Of an exists: "no node" is an answer, None.
    Exists,
    /// Of a multi: a list.
    Parts,
}

impl Waiting {
    /// The path that an exception names.
    pub(super) fn error_path(&self) -> Option<&Py<PyAny>> {
        self.path.as_ref().filter(|_| self.answer != Answer::Parts)
    }
}

/// What a future is resolved with.
pub(super) enum Outcome<'py> {
    Result(Bound<'py, PyAny>),
    Exception(Bound<'py, PyAny>),
}

/// The object or the exception that a server's answer is to Python.
pub(super) fn outcome<'py>(
    py: Python<'py>,
    call: &Waiting,
    result: Result<Response, Failure>,
) -> PyResult<Outcome<'py>> {
    Ok(match result {
        Ok(response) => Outcome::Result(object(py, call, response)?),
        Err(Failure::Server(code)) if call.answer == Answer::Exists && code == ErrorCode::NoNode.code() => {
            Outcome::Result(py.None().into_bound(py))
        }
        Err(failure) => Outcome::Exception(client_errors::failure(py, failure, call.error_path())?),
    })
}

fn object<'py>(py: Python<'py>, call: &Waiting, response: Response) -> PyResult<Bound<'py, PyAny>> {
    Ok(match response {
        Response::Empty | Response::AddWatch(_) => py.None().into_bound(py),
        Response::Path(reply) => reply.path.into_pyobject(py)?,
        Response::PathStat(reply) if call.answer == Answer::PathOnly => PyString::new(py, &reply.path).into_any(),
        Response::PathStat(reply) => (reply.path, Stat::from(reply.stat)).into_pyobject(py)?.into_any(),
        Response::Stat(reply) => Bound::new(py, Stat::from(reply.stat))?.into_any(),
        Response::DataStat(reply) => data_stat(py, reply.data, reply.stat)?,
        Response::AclStat(reply) => {
            let acl: Vec<_> = reply.acl.into_iter().map(|Acl { perms, id }| (perms, id.scheme, id.id)).collect();
            (acl, Stat::from(reply.stat)).into_pyobject(py)?.into_any()
        }
        Response::Children(reply) => reply.children.into_pyobject(py)?,
        Response::ChildrenStat(reply) => (reply.children, Stat::from(reply.stat)).into_pyobject(py)?.into_any(),
        Response::Multi(reply) => {
            let results = PyList::empty(py);
            for (index, result) in reply.results.into_iter().enumerate() {
                let path = call.path.as_ref().and_then(|paths| paths.bind(py).get_item(index).ok());
                results.append(part(py, result, path)?)?;
            }
            results.into_any()
        }
        Response::Sasl(reply) => PyBytes::new(py, &reply.token.unwrap_or_default()).into_any(),
        Response::Ephemerals(reply) => reply.ephemerals.into_pyobject(py)?,
        Response::TotalNumber(reply) => reply.total.into_pyobject(py)?.into_any(),
        Response::WhoAmI(reply) => {
            let users: Vec<_> = reply.client_info.into_iter().map(|info| (info.auth_scheme, info.user)).collect();
            users.into_pyobject(py)?
        }
    })
}

/// One result of a multi or a multiRead; one that failed is an exception, made and not raised.
fn part<'py>(py: Python<'py>, result: MultiResult, path: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match result {
        MultiResult::Create { path } => PyString::new(py, &path).into_any(),
        MultiResult::Create2 { path, stat } => (path, Stat::from(stat)).into_pyobject(py)?.into_any(),
        MultiResult::Delete | MultiResult::Check => py.None().into_bound(py),
        MultiResult::SetData { stat } => Bound::new(py, Stat::from(stat))?.into_any(),
        MultiResult::GetData { data, stat } => data_stat(py, data, stat)?,
        MultiResult::GetChildren { children } => children.into_pyobject(py)?,
        MultiResult::Error { code } => client_errors::code(py, code, path.map(Bound::unbind).as_ref())?,
    })
}

/// Null data reads as no bytes, as in kazoo.
fn data_stat(py: Python<'_>, data: Option<Vec<u8>>, stat: records::Stat) -> PyResult<Bound<'_, PyAny>> {
    let data = PyBytes::new(py, data.as_deref().unwrap_or_default());
    Ok((data, Stat::from(stat)).into_pyobject(py)?.into_any())
}

/// ZooKeeper's number for the kind of a znode. ZooKeeper: `CreateMode`.
pub(super) fn create_mode(flags: i32, ttl_ms: i64) -> PyResult<CreateMode> {
    Ok(match flags {
        0 => CreateMode::Persistent,
        1 => CreateMode::Ephemeral,
        2 => CreateMode::PersistentSequential,
        3 => CreateMode::EphemeralSequential,
        4 => CreateMode::Container,
        5 => CreateMode::Ttl { ttl_ms },
        6 => CreateMode::SequentialTtl { ttl_ms },
        _ => return Err(PyValueError::new_err(format!("there is no kind of znode with number {flags}"))),
    })
}

/// `(perms, scheme, id)` for each; None means `world:anyone` with everything.
pub(super) fn acls(given: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Acl>> {
    let Some(given) = given else {
        return Ok(vec![Acl::open()]);
    };
    let mut acls = Vec::new();
    for entry in given.try_iter()? {
        let (perms, scheme, id) = entry?.extract::<(i32, String, String)>()?;
        acls.push(Acl { perms, id: Id { scheme, id } });
    }
    Ok(acls)
}

/// An operation of a multi with its Python objects, from which [`PartGiven::write`] and [`PartGiven::read`] borrow.
pub(super) struct PartGiven<'py> {
    code: i32,
    path: Bound<'py, PyString>,
    data: Option<Bound<'py, PyBytes>>,
    acl: Vec<Acl>,
    /// Flags of a create, the wanted version of the others.
    number: i32,
    ttl_ms: i64,
}

/// Reads the tuples that begin with an operation's code.
pub(super) fn parts<'py>(given: &Bound<'py, PySequence>) -> PyResult<Vec<PartGiven<'py>>> {
    given.try_iter()?.map(|part| PartGiven::from_tuple(part?.cast_into::<PyTuple>()?)).collect()
}

impl<'py> PartGiven<'py> {
    fn from_tuple(tuple: Bound<'py, PyTuple>) -> PyResult<Self> {
        let code = tuple.get_item(0)?.extract()?;
        let path = tuple.get_item(1)?.cast_into::<PyString>()?;
        let mut part = PartGiven { code, path, data: None, acl: Vec::new(), number: -1, ttl_ms: 0 };
        match code {
            op::CREATE | op::CREATE2 => {
                part.data = Some(tuple.get_item(2)?.cast_into()?);
                let acl = tuple.get_item(3)?;
                part.acl = acls(Some(&acl).filter(|acl| !acl.is_none()))?;
                part.number = tuple.get_item(4)?.extract()?;
                part.ttl_ms = tuple.get_item(5)?.extract()?;
            }
            op::DELETE | op::CHECK => part.number = tuple.get_item(2)?.extract()?,
            op::SET_DATA => {
                part.data = Some(tuple.get_item(2)?.cast_into()?);
                part.number = tuple.get_item(3)?.extract()?;
            }
            op::GET_DATA | op::GET_CHILDREN => {}
            _ => return Err(PyValueError::new_err(format!("{code} is no operation of a multi"))),
        }
        Ok(part)
    }

    pub(super) fn path(&self) -> &Bound<'py, PyString> {
        &self.path
    }

    /// It as an operation of a multi.
    pub(super) fn write(&self) -> PyResult<WriteOp<'_>> {
        let path = self.path.to_str()?;
        let data = self.data.as_ref().map(|data| data.as_bytes());
        Ok(match self.code {
            op::CREATE | op::CREATE2 => WriteOp::Create {
                path,
                data,
                acl: &self.acl,
                mode: create_mode(self.number, self.ttl_ms)?,
                stat: self.code == op::CREATE2,
            },
            op::DELETE => WriteOp::Delete { path, version: self.number },
            op::SET_DATA => WriteOp::Set { path, data, version: self.number },
            op::CHECK => WriteOp::Check { path, version: self.number },
            _ => return Err(PyTypeError::new_err("a read in a multi of writes")),
        })
    }

    /// It as an operation of a multiRead.
    pub(super) fn read(&self) -> PyResult<ReadOp<'_>> {
        let path = self.path.to_str()?;
        Ok(match self.code {
            op::GET_DATA => ReadOp::Get { path },
            op::GET_CHILDREN => ReadOp::Children { path },
            _ => return Err(PyTypeError::new_err("a write in a multi of reads")),
        })
    }
}
