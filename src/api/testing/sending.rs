//! How requests are sent, and answers read: whole, or as they come.

use std::future::poll_fn;
use std::pin::Pin;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::test;

use super::*;
use crate::api::server::app;
use crate::live::{Event, Hub};

impl Bench {
    /// Sends a request; a body is sent as JSON, one that is a text as it is.
    pub async fn send(&self, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        let (mut answer, body) = self.begin(method, path, body, headers).await;
        answer.bytes = actix_web::body::to_bytes(body).await.map_err(|_| "broken off").unwrap().to_vec();
        answer
    }

    /// The same with a place where things happen, which are followed.
    pub fn with_live(self) -> Self {
        let mut services = self.state.services.clone();
        services.live = Hub::default();
        services.live.begin_following();
        let state = web::Data::new(State::new(services, self.state.options.clone()));
        Self { state, ..self }
    }

    /// Asks for a stream; once it is there, these happen. Reads until it has shown `last`, where it was not refused.
    pub async fn listen(&self, path: &str, headers: &[(&str, &str)], events: Vec<Event>, last: &str) -> Answer {
        let (mut answer, mut body) = self.begin("GET", path, None, headers).await;
        self.state.services.live.tell(events);
        while !String::from_utf8_lossy(&answer.bytes).contains(last) {
            let piece = poll_fn(|cx| Pin::new(&mut body).poll_next(cx));
            let piece = tokio::time::timeout(PATIENCE, piece).await.expect("it comes");
            let Some(piece) = piece else { break };
            answer.bytes.extend(piece.map_err(|_| "broken off").unwrap());
        }
        answer
    }

    /// The head of an answer, and its body to be read.
    async fn begin(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> (Answer, BoxBody) {
        let app = test::init_service(app(self.state.clone())).await;
        let mut request = test::TestRequest::default()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(path)
            .peer_addr("10.0.0.9:1".parse().unwrap());
        if let Some(Value::String(text)) = &body {
            request = request.set_payload(text.clone());
        } else if let Some(body) = body {
            request = request.set_json(body);
        }
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        let response = test::call_service(&app, request.to_request()).await.map_into_boxed_body();
        let (head, body) = ServiceResponse::into_parts(response).1.into_parts();
        (Answer { status: head.status().as_u16(), headers: head.headers().clone(), bytes: Vec::new() }, body)
    }
}
