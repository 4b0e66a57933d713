//! The engine that serves the pages on one listener; there are two, for the team and for everybody.

use std::net::TcpListener;

use engine::{BoxFuture, Context, Engine, EngineError};
use event::Span;
use web::Router;

/// A listener and the router that it serves. The listener is bound before anything starts, so that a taken port fails the start,
/// and kept for the next attempt when the engine is started again.
pub(crate) struct PagesEngine {
    pub(crate) name: &'static str,
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    /// Most connections at a time: the listener's share of the file descriptors of the process.
    pub(crate) connections_max: usize,
}

impl PagesEngine {
    async fn serve(&self, context: Context) -> Result<(), EngineError> {
        let listener = tokio::net::TcpListener::from_std(self.listener.try_clone()?)?;
        let serving = web::serve(listener, self.router.clone(), context.stop.clone(), self.connections_max);
        tokio::pin!(serving);
        loop {
            context.progress.tick();
            tokio::select! {
                () = &mut serving => return Ok(()),
                () = tokio::time::sleep(Span::from_secs(5).to_std()) => {}
            }
        }
    }
}

impl Engine for PagesEngine {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stop_order(&self) -> u8 {
        5
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.serve(context))
    }
}
