//! Real applications, from Debian, inside pods.

mod clients;
mod nginx;
mod postgres;
mod redis;

pub use clients::{Curl, curl, curl_fails, psql, psql_session, redis_cli};
pub use nginx::{Nginx, Request};
pub use postgres::Postgres;
pub use redis::Redis;
