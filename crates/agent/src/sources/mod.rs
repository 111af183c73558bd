//! Where wanted objects come from: values in, nothing else. So far there is one source, the manifest directory; objects that others
//! make (a job's pods) are wanted by their controllers.

pub mod directory;
pub mod wanted;
