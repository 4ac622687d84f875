//! `zabkit.Stat`: a znode's stat as Python sees it. The numbers stay Rust's until somebody reads one.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::records::{self, Zxid};

/// A znode's stat.
///
/// Zxids are epoch << 32 | counter, times are milliseconds since 1970 UTC by the leader's clock, dataLength is in bytes
/// (0 for null data), and ephemeralOwner is the owner's session id, 0 for a znode that is not ephemeral.
#[pyclass(frozen, eq, hash, module = "zabkit", name = "Stat")]
#[derive(PartialEq, Hash)]
pub(super) struct Stat {
    fields: Fields,
}

/// The fields in the order of the constructor, of `__match_args__` and of the wire.
type Fields = (i64, i64, i64, i64, i32, i32, i32, i64, i32, i32, i64);

const NAMES: [&str; 11] = [
    "czxid",
    "mzxid",
    "ctime",
    "mtime",
    "version",
    "cversion",
    "aversion",
    "ephemeralOwner",
    "dataLength",
    "numChildren",
    "pzxid",
];

impl From<records::Stat> for Stat {
    fn from(stat: records::Stat) -> Stat {
        let Zxid(czxid) = stat.czxid;
        let Zxid(mzxid) = stat.mzxid;
        let Zxid(pzxid) = stat.pzxid;
        Stat {
            fields: (
                czxid,
                mzxid,
                stat.ctime,
                stat.mtime,
                stat.version,
                stat.cversion,
                stat.aversion,
                stat.ephemeral_owner,
                stat.data_length,
                stat.num_children,
                pzxid,
            ),
        }
    }
}

#[pymethods]
impl Stat {
    #[new]
    #[allow(non_snake_case, reason = "ZooKeeper's and kazoo's names")]
    #[allow(clippy::too_many_arguments, reason = "a stat has eleven fields")]
    fn new(
        czxid: i64,
        mzxid: i64,
        ctime: i64,
        mtime: i64,
        version: i32,
        cversion: i32,
        aversion: i32,
        ephemeralOwner: i64,
        dataLength: i32,
        numChildren: i32,
        pzxid: i64,
    ) -> Stat {
        Stat {
            fields: (
                czxid,
                mzxid,
                ctime,
                mtime,
                version,
                cversion,
                aversion,
                ephemeralOwner,
                dataLength,
                numChildren,
                pzxid,
            ),
        }
    }

    #[classattr]
    fn __match_args__(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, NAMES)
    }

    /// Zxid of the create.
    #[getter]
    fn czxid(&self) -> i64 {
        self.fields.0
    }

    /// Zxid of the last change of the data.
    #[getter]
    fn mzxid(&self) -> i64 {
        self.fields.1
    }

    /// When it was created, in ms since 1970 UTC.
    #[getter]
    fn ctime(&self) -> i64 {
        self.fields.2
    }

    /// When its data changed last, in ms since 1970 UTC.
    #[getter]
    fn mtime(&self) -> i64 {
        self.fields.3
    }

    /// Number of changes of the data.
    #[getter]
    fn version(&self) -> i32 {
        self.fields.4
    }

    /// Number of changes of the set of children.
    #[getter]
    fn cversion(&self) -> i32 {
        self.fields.5
    }

    /// Number of changes of the ACL.
    #[getter]
    fn aversion(&self) -> i32 {
        self.fields.6
    }

    /// Session id of the owner of an ephemeral znode, else 0.
    #[getter(ephemeralOwner)]
    fn ephemeral_owner(&self) -> i64 {
        self.fields.7
    }

    /// Bytes of data.
    #[getter(dataLength)]
    fn data_length(&self) -> i32 {
        self.fields.8
    }

    /// Number of children.
    #[getter(numChildren)]
    fn num_children(&self) -> i32 {
        self.fields.9
    }

    /// Zxid of the last change of the set of children.
    #[getter]
    fn pzxid(&self) -> i64 {
        self.fields.10
    }

    /// When it was created, in seconds since 1970 UTC.
    #[getter]
    fn created(&self) -> f64 {
        self.fields.2 as f64 / 1000.0
    }

    /// When its data changed last, in seconds since 1970 UTC.
    #[getter]
    fn last_modified(&self) -> f64 {
        self.fields.3 as f64 / 1000.0
    }

    /// Session id of the owner of an ephemeral znode, else None.
    #[getter]
    fn owner_session_id(&self) -> Option<i64> {
        Some(self.fields.7).filter(|&owner| owner != 0)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        Ok((slf.get_type().into_any(), slf.get().fields.into_pyobject(slf.py())?))
    }

    fn __repr__(&self) -> String {
        let (czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, length, children, pzxid) = self.fields;
        let values = [
            czxid,
            mzxid,
            ctime,
            mtime,
            version.into(),
            cversion.into(),
            aversion.into(),
            owner,
            length.into(),
            children.into(),
            pzxid,
        ];
        let fields: Vec<String> = NAMES.iter().zip(values).map(|(name, value)| format!("{name}={value}")).collect();
        format!("Stat({})", fields.join(", "))
    }
}
