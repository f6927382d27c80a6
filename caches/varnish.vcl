# Varnish (6.4 and later) as the cache that a fleet of haproxy-staplers shares: however many ask, a CA is asked once for
# each certificate. varnishd -f /path/to/varnish.vcl -a ADDRESS:8888 -s malloc,64m. What to change is marked EDIT.
# See docs/fleet.md.
#
# The sidecars find it in one of two ways, or in both, on the one port:
#
#   1. as a responder; nothing else of theirs goes through it:
#          STAPLER_RESPONDERS=ocsp.ca.example=http://cache.internal:8888/ocsp.ca.example/
#   2. as an HTTP proxy, for http:// URLs only:
#          HTTP_PROXY=http://cache.internal:8888
#
# Only the hosts below are ever asked, each under the address written there: this is no open proxy. Let nobody but the
# fleet in all the same: whoever can ask it can make it ask the CAs.

vcl 4.1;

import std;

backend default none;

# EDIT: one for each host in the OCSP URLs of your certificates (`haproxy-stapler once --json` lists them as "responders").
# Varnish looks a name up once, when it loads this, and takes one that has one address only.
backend ocsp_ca_example {
    .host = "ocsp.ca.example";
    .port = "80";
    .host_header = "ocsp.ca.example";
    .connect_timeout = 4s;
    .first_byte_timeout = 8s;
    .between_bytes_timeout = 4s;
}

# EDIT: which host is asked at which backend.
sub find_authority {
    set req.backend_hint = default;
    if (req.http.host == "ocsp.ca.example") {
        set req.backend_hint = ocsp_ca_example;
    }
}

sub vcl_recv {
    # The second way is a proxy's: the host is the CA's. The first has the CA's host as the first part of the path.
    set req.http.host = regsub(std.tolower(req.http.host), ":[0-9]+$", "");
    call find_authority;
    if (req.backend_hint == default) {
        set req.http.host = regsub(req.url, "^/([^/?]*).*$", "\1");
        set req.url = regsub(req.url, "^/[^/?]*/?", "/");
        call find_authority;
    }
    if (req.backend_hint == default) {
        return (synth(403));
    }
    if (req.method == "POST") {
        return (pass);
    }
    if (req.method != "GET") {
        return (synth(405));
    }
    # A sidecar that was given something too old says so, and gets what the CA says now.
    if (req.http.Cache-Control ~ "(?i)no-cache") {
        set req.hash_always_miss = true;
    }
    unset req.http.Cookie;
    return (hash);
}

sub vcl_backend_response {
    # CAs behind a CDN set cookies, which mean nothing here and would forbid keeping.
    unset beresp.http.Set-Cookie;
    # A GET is kept as long as its answer says (Cache-Control, Expires), or ten minutes if it says nothing.
    if (!beresp.http.Cache-Control && !beresp.http.Expires) {
        set beresp.ttl = 10m;
    }
    # For so long an old answer may be given to those who ask while it is being renewed. When the CA does not answer they
    # are told so: nothing old hides that for longer.
    set beresp.grace = 10s;
    # For so long the CA may say that an old answer is still right instead of sending it again.
    set beresp.keep = 1d;
    # An answer of a few bytes is an error of OCSP's own (tryLater, unauthorized), which comes as a 200.
    if (beresp.status != 200 || std.integer(beresp.http.Content-Length, 1000) < 100) {
        set beresp.ttl = 0s;
        set beresp.grace = 0s;
        set beresp.uncacheable = true;
        return (deliver);
    }
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Cache-Status = "HIT";
    } else {
        set resp.http.X-Cache-Status = "MISS";
    }
}
