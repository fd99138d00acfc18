//! Drives a rustls handshake over a socket and hands over to [`Session`].

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, NamedGroup, ServerConfig};
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;

use super::session::Session;
use super::{Authenticated, PeerError, proven_peer};
use crate::socket::Socket;

/// Read at once; a flight with a post-quantum key share and a chain of certificates takes several.
const READ: usize = 4 << 10;
/// All that a peer may have sent and that is not understood yet.
const LARGEST: usize = 128 << 10;

/// A named group that has no name.
const UNKNOWN: &str = "unknown";

/// Either end of a handshake.
trait Handshake: Sized {
    type Data;
    fn process<'a, 'b>(&'a mut self, input: &'b mut [u8]) -> UnbufferedStatus<'a, 'b, Self::Data>;
    fn has_more_to_say(&self) -> bool;
    fn finish(self) -> Result<Finished, PeerError>;
}

/// What a finished handshake leaves.
struct Finished {
    session: Session,
    peer: mesh_common::identity::SpiffeId,
    until: std::time::SystemTime,
    group: &'static str,
}

macro_rules! handshake {
    ($connection:ty, $data:ty) => {
        impl Handshake for $connection {
            type Data = $data;

            fn process<'a, 'b>(
                &'a mut self,
                input: &'b mut [u8],
            ) -> UnbufferedStatus<'a, 'b, $data> {
                self.process_tls_records(input)
            }

            fn has_more_to_say(&self) -> bool {
                self.wants_write()
            }

            fn finish(self) -> Result<Finished, PeerError> {
                let (peer, until) = proven_peer(self.alpn_protocol(), self.peer_certificates())?;
                let group = self.negotiated_key_exchange_group();
                let (secrets, connection) =
                    self.dangerous_into_kernel_connection().map_err(failed)?;
                let session = Session::new(&secrets, connection)
                    .map_err(|e| PeerError::Handshake(io::Error::other(e)))?;
                Ok(Finished {
                    session,
                    peer,
                    until,
                    group: group.map_or(UNKNOWN, |group| named(group.name())),
                })
            }
        }
    };
}

handshake!(UnbufferedClientConnection, ClientConnectionData);
handshake!(UnbufferedServerConnection, ServerConnectionData);

/// The IANA name of a named group.
fn named(group: NamedGroup) -> &'static str {
    group.as_str().unwrap_or(UNKNOWN)
}

fn failed(error: rustls::Error) -> PeerError {
    PeerError::Handshake(io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The client's end.
pub(super) async fn client(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    socket: Socket,
) -> Result<Authenticated, PeerError> {
    let connection = UnbufferedClientConnection::new(config, name).map_err(failed)?;
    drive(connection, socket).await
}

/// The server's end.
pub(super) async fn server(
    config: Arc<ServerConfig>,
    socket: Socket,
) -> Result<Authenticated, PeerError> {
    let connection = UnbufferedServerConnection::new(config).map_err(failed)?;
    drive(connection, socket).await
}

async fn drive<H: Handshake>(
    mut connection: H,
    socket: Socket,
) -> Result<Authenticated, PeerError> {
    let (mut input, mut filled) = (vec![0; READ], 0);
    let mut output = Vec::new();
    let mut early = Vec::new();
    let mut flushed = false;
    loop {
        let buffer = input.get_mut(..filled).unwrap_or_default();
        let UnbufferedStatus {
            mut discard, state, ..
        } = connection.process(buffer);
        let mut blocked = false;
        match state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut output)?,
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                socket.write_all(&output).await?;
                output.clear();
                transmit.done();
            }
            Ok(ConnectionState::BlockedHandshake) => blocked = true,
            // The peer may speak as soon as its own part is over.
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(failed)?;
                    early.extend_from_slice(record.payload);
                    discard += record.discard;
                }
            }
            // The answer to a key update is kept back until something is written. A write without room
            // writes nothing else.
            Ok(ConnectionState::WriteTraffic(mut traffic)) if !flushed => {
                flushed = true;
                let _ = traffic.encrypt(&[0], &mut []);
            }
            Ok(ConnectionState::WriteTraffic(_)) => {
                discard_front(&mut input, &mut filled, discard);
                break;
            }
            Ok(_) => return Err(closed()),
            Err(error) => {
                alert(&mut connection, &socket, output).await;
                return Err(failed(error));
            }
        }
        discard_front(&mut input, &mut filled, discard);
        if blocked {
            filled += read_more(&socket, &mut input, filled).await?;
        }
    }
    let Finished {
        session,
        peer,
        until,
        group,
    } = connection.finish()?;
    input.truncate(filled);
    Ok(Authenticated {
        socket,
        session,
        early,
        unread: input,
        peer,
        until,
        group,
    })
}

async fn read_more(
    socket: &Socket,
    input: &mut Vec<u8>,
    filled: usize,
) -> Result<usize, PeerError> {
    if filled + READ > input.len() {
        if input.len() >= LARGEST {
            let error = io::Error::new(io::ErrorKind::InvalidData, "the handshake is too large");
            return Err(PeerError::Handshake(error));
        }
        input.resize(filled + READ, 0);
    }
    match socket
        .read(input.get_mut(filled..).unwrap_or_default())
        .await?
    {
        0 => Err(closed()),
        read => Ok(read),
    }
}

fn closed() -> PeerError {
    PeerError::Handshake(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer closed the connection during the handshake",
    ))
}

fn discard_front(input: &mut [u8], filled: &mut usize, discard: usize) {
    if discard > 0 {
        input.copy_within(discard..*filled, 0);
        *filled -= discard;
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, output: &mut Vec<u8>) -> Result<(), PeerError> {
    let start = output.len();
    let defect = |e: EncodeError| PeerError::Handshake(io::Error::other(e.to_string()));
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(error) => return Err(defect(error)),
        Ok(_) => return Ok(()),
    };
    output.resize(start + needed, 0);
    let place = output.get_mut(start..).unwrap_or_default();
    data.encode(place).map(|_| ()).map_err(defect)
}

/// Tells the peer why.
async fn alert<H: Handshake>(connection: &mut H, socket: &Socket, mut output: Vec<u8>) {
    // Once all is said, rustls would look at its input again.
    while connection.has_more_to_say() {
        let UnbufferedStatus { state, .. } = connection.process(&mut []);
        let Ok(ConnectionState::EncodeTlsData(data)) = state else {
            break;
        };
        if encode(data, &mut output).is_err() {
            break;
        }
    }
    let _ = socket.write_all(&output).await;
}
