//! The end that is the `h2` crate's: the same plans, carried out with its API.

use crate::endpoint::Ending;
use crate::pipe::Pipe;
use crate::plan::{ACCEPTED, Answer, CANCEL, INSTEAD, Plan, REFUSED, Way};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use tokio::task::{JoinHandle, spawn_local};

/// REFUSED_STREAM: also what the peer's GOAWAY means for a stream that it leaves out.
pub(crate) const LEFT_OUT: u32 = 7;

/// How far the tunnels have come on this side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    endings: Rc<RefCell<BTreeMap<u32, Ending>>>,
    pieces: Rc<Cell<usize>>,
}

impl Progress {
    fn ended(&self, number: u32, ending: Ending) {
        let before = self.endings.borrow_mut().insert(number, ending);
        assert_eq!(before, None, "a tunnel that ends twice");
    }

    pub(crate) fn endings(&self) -> BTreeMap<u32, Ending> {
        self.endings.borrow().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.endings.borrow().len()
    }

    /// Grows with everything that happens.
    pub(crate) fn measure(&self) -> usize {
        self.count() + self.pieces.get()
    }
}

/// What the server may be told to do while it serves.
#[derive(Clone, Default)]
pub(crate) struct Orders(Rc<RefCell<Vec<Order>>>);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Leave,
    /// A new initial window for its streams, bytes.
    Window(u32),
}

impl Orders {
    pub(crate) fn give(&self, order: Order) {
        self.0.borrow_mut().push(order);
    }
}

/// Serves until the connection ends. A given order is carried out with the next request or the next
/// progress of the connection.
pub(crate) fn serve(
    io: Pipe,
    builder: h2::server::Builder,
    plans: Vec<Plan>,
    seed: u64,
    progress: Progress,
    orders: Orders,
) -> JoinHandle<Result<(), h2::Error>> {
    spawn_local(async move {
        let mut connection = builder.handshake::<_, Bytes>(io).await?;
        loop {
            let accepted = poll_fn(|cx| {
                for order in orders.0.borrow_mut().drain(..) {
                    match order {
                        Order::Leave => connection.graceful_shutdown(),
                        Order::Window(bytes) => {
                            // Fails while an earlier change is not acknowledged.
                            let _ = connection.set_initial_window_size(bytes);
                        }
                    }
                }
                connection.poll_accept(cx)
            });
            let Some(accepted) = accepted.await else {
                return Ok(());
            };
            let (request, respond) = accepted?;
            let plan = requested(&request, &plans);
            spawn_local(answer(
                plan,
                request.into_body(),
                respond,
                seed,
                progress.clone(),
            ));
        }
    })
}

fn requested(request: &Request<RecvStream>, plans: &[Plan]) -> Plan {
    assert_eq!(request.method(), Method::CONNECT);
    let text = |name| {
        request
            .headers()
            .get(name)
            .map(|v| v.to_str().expect("text"))
    };
    let number: u32 = text("plan").expect("a number").parse().expect("a number");
    let plan = plans.iter().find(|p| p.number == number);
    let plan = plan.expect("a tunnel that was planned").clone();
    assert!(text("filler").unwrap_or_default() == plan.filler());
    plan
}

async fn answer(
    plan: Plan,
    body: RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
    seed: u64,
    progress: Progress,
) {
    let mut rng = StdRng::seed_from_u64(seed ^ u64::from(plan.number) << 32);
    pause(&mut rng).await;
    let status = match plan.answer {
        Answer::Reset => {
            respond.send_reset(Reason::from(INSTEAD));
            return progress.ended(plan.number, Ending::ResetHere(INSTEAD));
        }
        Answer::Accept => ACCEPTED,
        Answer::Refuse => REFUSED,
    };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    let refused = plan.answer == Answer::Refuse;
    let ending = match respond.send_response(response, refused) {
        Ok(_) if refused => {
            let code = poll_fn(|cx| respond.poll_reset(cx)).await.expect("a reset");
            Ending::ResetThere(code.into())
        }
        Ok(send) => tunnel(send, body, &plan.down, &plan.up, rng, &progress).await,
        Err(_) => {
            let code = poll_fn(|cx| respond.poll_reset(cx)).await.expect("a reset");
            Ending::ResetThere(code.into())
        }
    };
    progress.ended(plan.number, ending);
}

/// Makes the requests; the connection ends when all tunnels have ended.
pub(crate) fn request(
    io: Pipe,
    builder: h2::client::Builder,
    plans: Vec<Plan>,
    seed: u64,
    progress: Progress,
) -> JoinHandle<Result<(), h2::Error>> {
    spawn_local(async move {
        let (mut client, mut connection) = builder.handshake::<_, Bytes>(io).await?;
        let mut pings = connection.ping_pong().expect("once");
        let pinging = spawn_local(async move {
            for _ in 0..3 {
                pings.ping(h2::Ping::opaque()).await.expect("an answer");
            }
        });
        let asking = spawn_local(async move {
            for plan in plans {
                if poll_fn(|cx| client.poll_ready(cx)).await.is_err() {
                    // The server leaves: what was not asked for is not.
                    return;
                }
                let mut request = Request::builder()
                    .method(Method::CONNECT)
                    .uri("10.0.0.1:80")
                    .header("plan", plan.number);
                if plan.filler > 0 {
                    request = request.header("filler", plan.filler());
                }
                let request = request.body(()).expect("a request");
                let (response, send) = client.send_request(request, false).expect("ready");
                spawn_local(ask(plan, response, send, seed, progress.clone()));
            }
            // The connection lasts for as long as somebody may ask.
            pinging.await.expect("all answered");
            drop(client);
        });
        let result = connection.await;
        asking.await.expect("no panic");
        result
    })
}

async fn ask(
    plan: Plan,
    response: h2::client::ResponseFuture,
    mut send: SendStream<Bytes>,
    seed: u64,
    progress: Progress,
) {
    let rng = StdRng::seed_from_u64(seed ^ u64::from(plan.number) << 32);
    let ending = match response.await {
        Ok(response) => match (plan.answer, response.status().as_u16()) {
            (Answer::Accept, ACCEPTED) => {
                tunnel(
                    send,
                    response.into_body(),
                    &plan.up,
                    &plan.down,
                    rng,
                    &progress,
                )
                .await
            }
            (Answer::Refuse, REFUSED) => {
                send.send_reset(Reason::from(CANCEL));
                Ending::ResetHere(CANCEL)
            }
            other => panic!("{other:?}"),
        },
        Err(error) => reset_by(&error),
    };
    progress.ended(plan.number, ending);
}

/// Which side has reset the stream.
fn reset_by(error: &h2::Error) -> Ending {
    if error.is_go_away() && error.is_remote() {
        return Ending::ResetThere(LEFT_OUT);
    }
    assert!(error.is_reset(), "{error}");
    let code = error.reason().expect("a reset").into();
    match error.is_remote() {
        true => Ending::ResetThere(code),
        false => Ending::ResetHere(code),
    }
}

/// Lets the other tasks run for a while.
async fn pause(rng: &mut StdRng) {
    for _ in 0..rng.random_range(0..4) {
        tokio::task::yield_now().await;
    }
}

/// Both directions of an open tunnel, side by side.
async fn tunnel(
    send: SendStream<Bytes>,
    receive: RecvStream,
    out: &Way,
    back: &Way,
    mut rng: StdRng,
    progress: &Progress,
) -> Ending {
    let (out, back) = (out.clone(), back.clone());
    let (first, second) = (rng.random(), rng.random());
    let pieces = progress.pieces.clone();
    let rng = StdRng::seed_from_u64(first);
    let sending = spawn_local(async move { send_all(send, &out, rng).await });
    let rng = StdRng::seed_from_u64(second);
    let receiving = spawn_local(async move { receive_all(receive, &back, rng, &pieces).await });
    let sent = sending.await.expect("no panic");
    if let Err(Ending::ResetHere(code)) = sent {
        // The receiving side of h2 learns of it as well, or has ended before.
        receiving.abort();
        return Ending::ResetHere(code);
    }
    let received = receiving.await.expect("no panic");
    match (sent, received) {
        (Ok(()), Ok(())) => Ending::Complete,
        (_, Err(ending)) | (Err(ending), _) => ending,
    }
}

/// The peer's reset of a stream on which nothing can be sent.
async fn reset_of(send: &mut SendStream<Bytes>) -> Ending {
    let code = poll_fn(|cx| send.poll_reset(cx)).await.expect("a reset");
    Ending::ResetThere(code.into())
}

async fn send_all(mut send: SendStream<Bytes>, way: &Way, mut rng: StdRng) -> Result<(), Ending> {
    let mut sent = 0;
    while sent < way.bytes {
        pause(&mut rng).await;
        send.reserve_capacity((way.bytes - sent).min(rng.random_range(1..50_000)));
        let room = match poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(Ok(room)) => room.min(way.bytes - sent),
            Some(Err(error)) => return Err(reset_by(&error)),
            None => return Err(reset_of(&mut send).await),
        };
        let end = sent + room == way.bytes && way.reset.is_none() && rng.random();
        let content = Bytes::from(way.content(sent, room));
        if send.send_data(content, end).is_err() {
            return Err(reset_of(&mut send).await);
        }
        sent += room;
        if end {
            return Ok(());
        }
    }
    if let Some(code) = way.reset {
        send.send_reset(Reason::from(code));
        return Err(Ending::ResetHere(code));
    }
    if send.send_data(Bytes::new(), true).is_err() {
        return Err(reset_of(&mut send).await);
    }
    Ok(())
}

async fn receive_all(
    mut receive: RecvStream,
    way: &Way,
    mut rng: StdRng,
    pieces: &Cell<usize>,
) -> Result<(), Ending> {
    let mut received = 0;
    while let Some(content) = receive.data().await {
        let content = match content {
            Ok(content) => content,
            Err(error) => return Err(reset_by(&error)),
        };
        way.check(received, &content);
        received += content.len();
        pieces.set(pieces.get() + 1);
        let rounds = if way.slow { 5 } else { 1 };
        for _ in 0..rounds {
            pause(&mut rng).await;
        }
        // Fails when the stream is gone; h2 has given all of it back then.
        let _ = receive.flow_control().release_capacity(content.len());
    }
    assert_eq!((received, way.reset), (way.bytes, None));
    Ok(())
}
