use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{COPY_SIZE, Joined};

/// The longest message that is taken, in bytes.
const MESSAGE_MAX: usize = 1 << 20;

/// Has a client and a process talk by a websocket.
pub(crate) async fn speak(client: impl AsyncRead + AsyncWrite + Unpin, joined: Joined) {
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
    let socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
    let (mut messages_out, mut messages_in) = socket.split();
    // The process's side knows a stream of bytes each way.
    let (near, far) = tokio::io::duplex(COPY_SIZE);
    let (mut output, mut input) = tokio::io::split(near);
    let (far_in, far_out) = tokio::io::split(far);
    let heard = async {
        let mut buffer = vec![0; COPY_SIZE];
        // Either side may be gone: there is nobody left to tell.
        while let Ok(length @ 1..) = output.read(&mut buffer).await {
            let message = Message::binary(buffer[..length].to_vec());
            if messages_out.send(message).await.is_err() {
                return;
            }
        }
        let _ = messages_out.close().await;
    };
    let said = async {
        while let Some(Ok(message)) = messages_in.next().await {
            let text = matches!(message, Message::Text(_) | Message::Binary(_));
            if text && input.write_all(&message.into_data()).await.is_err() {
                break;
            }
        }
        let _ = input.shutdown().await;
    };
    let joined = joined.run(far_in, far_out);
    // It is over when all was heard, or the client has closed.
    tokio::select! {
        ((), ()) = async { tokio::join!(joined, heard) } => {}
        () = said => {}
    }
}
