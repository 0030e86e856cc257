//! A connection of any kind, behind one name.

use tokio::io::{AsyncRead, AsyncWrite};

/// TCP, unix or TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
