//! Why an exchange gave no body, each reason with its evidence.

use std::time::Duration;

/// Why an exchange gave no body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The URL cannot be used.
    #[error("the URL '{url}' is not an http(s) URL")]
    Url {
        /// As the certificate has it.
        url: String,
    },
    /// The name does not resolve.
    #[error("the name of '{url}' does not resolve: {reason}")]
    Dns {
        /// What was asked.
        url: String,
        /// The resolver's words.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to '{url}': {reason}")]
    Connect {
        /// What was asked.
        url: String,
        /// The system's words.
        reason: String,
    },
    /// Not even asked, because others were being asked the whole time.
    #[error("'{url}' was not asked: {limit} requests to its host were under way for {:.1} s", .deadline.as_secs_f64())]
    Crowded {
        /// What was to be asked.
        url: String,
        /// How many at once there may be.
        limit: usize,
        /// How long it waited.
        deadline: Duration,
    },
    /// No whole answer in time.
    #[error("'{url}' gave no whole answer within {:.1} s", .deadline.as_secs_f64())]
    Timeout {
        /// What was asked.
        url: String,
        /// How long it had.
        deadline: Duration,
    },
    /// An answer that is not 200.
    #[error("'{url}' answered HTTP {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The status code.
        status: u16,
        /// How long the CA wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// A body over the cap.
    #[error("'{url}' sent more than {limit} bytes")]
    TooLarge {
        /// What was asked.
        url: String,
        /// The cap.
        limit: usize,
    },
    /// A redirect that is not followed.
    #[error("'{url}' redirects where this program does not go: {reason}")]
    Redirect {
        /// What was asked.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The connection broke.
    #[error("the exchange with '{url}' broke off: {reason}")]
    Broken {
        /// What was asked.
        url: String,
        /// The system's words.
        reason: String,
    },
}

impl Fault {
    /// The stable name for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::Dns { .. } => "dns",
            Self::Connect { .. } => "connect",
            Self::Crowded { .. } => "crowded",
            Self::Timeout { .. } => "timeout",
            Self::Status { .. } => "http_status",
            Self::TooLarge { .. } => "too_large",
            Self::Redirect { .. } => "redirect",
            Self::Broken { .. } => "broken",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Url { .. } => {
                "the certificate names a responder that cannot be asked; set STAPLER_RESPONDERS for its host"
            }
            Self::Dns { .. } => "check this host's resolver and, in Kubernetes, that the NetworkPolicy lets DNS out",
            Self::Connect { .. } | Self::Timeout { .. } => {
                "check that this host may reach the responder (TCP 80 out), or set HTTP_PROXY"
            }
            Self::Crowded { .. } => {
                "the host is slow for everybody; it is asked again by itself, and STAPLER_CONCURRENCY allows more at once"
            }
            Self::Status { .. } | Self::Broken { .. } => {
                "the responder or a proxy before it is in trouble; it is asked again by itself"
            }
            Self::TooLarge { .. } => "this is no OCSP response; check what answers under the responder's name",
            Self::Redirect { .. } => {
                "check what answers under the responder's name, or set STAPLER_RESPONDERS for its host"
            }
        }
    }

    /// The same about `responder`: the URL of a GET carries the whole request, which says nothing to a person, and that
    /// of a redirect was written by a stranger.
    #[must_use]
    pub fn of(mut self, responder: &str) -> Self {
        let (Self::Url { url }
        | Self::Dns { url, .. }
        | Self::Connect { url, .. }
        | Self::Crowded { url, .. }
        | Self::Timeout { url, .. }
        | Self::Status { url, .. }
        | Self::TooLarge { url, .. }
        | Self::Redirect { url, .. }
        | Self::Broken { url, .. }) = &mut self;
        responder.clone_into(url);
        self
    }

    /// How long the CA wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the other HTTP method may do better: something answered, but not what was asked for.
    #[must_use]
    pub fn may_be_about_the_method(&self) -> bool {
        match self {
            Self::Status { status, .. } => !matches!(status, 408 | 429 | 503),
            Self::TooLarge { .. } | Self::Redirect { .. } => true,
            _ => false,
        }
    }
}
