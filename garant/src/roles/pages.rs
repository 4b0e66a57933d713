//! The pages: two listeners, one for the team and one for everybody.

use std::net::TcpListener;

use engine::{BoxFuture, Context, Engine, EngineError};
use event::Span;
use web::Router;

/// A listener and what it serves. It is bound before anything starts, so that a taken port is told at once, and kept for
/// the next attempt when the engine is started again.
pub(crate) struct Pages {
    pub(crate) name: &'static str,
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    /// Connections at a time: its share of the file descriptors of the process.
    pub(crate) connections_max: usize,
}

impl Pages {
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

impl Engine for Pages {
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
