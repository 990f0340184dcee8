#include "cli/client_end.hpp"
#include "cli/exit.hpp"
#include "cli/options.hpp"
#include "cli/places.hpp"
#include "cli/verbs.hpp"
#include "io/clock.hpp"
#include "tunnel/curve_tun/dial.hpp"
#include "tunnel/curvecp/dial.hpp"

namespace curvegate::cli {
namespace {

using exit_code::kFailed;
constexpr Duration kVerdictWait = std::chrono::seconds(1);

/// Runs one asynchronous step to its end.
template <class Value, class Start>
Result<Value> await(asio::io_context& context, Start start) {
    std::optional<Result<Value>> out;
    start([&](Result<Value> result) {
        out.emplace(std::move(result));
        context.stop();
    });
    context.restart();
    context.run();
    return std::move(*out);
}

/// Version 1 confirms nothing: a server that refuses us closes. Gives whether it did within a second.
bool closes_soon(asio::io_context& context, io::Stream& stream) {
    bool closed = false;
    io::Timer timer(context, kVerdictWait);
    timer.async_wait([&context](error_code error) {
        if (!error) context.stop();
    });
    stream.async_wait(io::Stream::wait_read, [&](error_code error) {
        if (error) return;  // cancelled below, and nothing here may be touched any more
        Byte byte = 0;
        closed = ::recv(stream.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
        context.stop();
    });
    context.restart();
    context.run();
    // One of the two still waits, and must not find this function gone.
    error_code ignored;
    stream.cancel(ignored);
    timer.cancel();
    context.restart();
    context.poll();
    return closed;
}

/// Tells the end of our direction and waits a moment for the server's, so that it sees no truncation.
void end_stream(asio::io_context& context, tunnel::curve_tun::Established& tunnel) {
    ByteArray<session::curve_tun::kFrameOverhead> frame{};
    if (!tunnel.session.seal_frame(frame)) return;
    (void)::send(tunnel.stream.native_handle(), frame.data(), frame.size(), MSG_NOSIGNAL);
    while (!closes_soon(context, tunnel.stream)) {
        ByteArray<16'384> rest{};
        if (::recv(tunnel.stream.native_handle(), rest.data(), rest.size(), MSG_DONTWAIT) <= 0) return;
    }
}

/// The same over CurveCP: takes what the server still says, and its end.
void end_stream(asio::io_context& context, tunnel::StreamTunnel& tunnel) {
    auto& stream = tunnel.stream();
    tunnel.on_event = [&] {
        while (!stream.readable().empty()) stream.consume(stream.readable().size());
        tunnel.flush();
        if (stream.done()) context.stop();
    };
    stream.finish();
    tunnel.flush();
    context.restart();
    context.run_for(kVerdictWait);
    tunnel.on_event = nullptr;
}

/// A server that has let us in and cannot reach its own service breaks the stream off. Gives whether it did
/// within a second.
bool breaks_off_soon(asio::io_context& context, tunnel::StreamTunnel& tunnel) {
    const auto broken = [&] { return tunnel.stream().incoming() == stream::Incoming::failed; };
    tunnel.on_event = [&] {
        if (broken()) context.stop();
    };
    context.restart();
    if (!broken()) context.run_for(kVerdictWait);
    tunnel.on_event = nullptr;
    return broken();
}

/// What the server's log says, and nothing else: its word for what went wrong, and what to do.
constexpr std::string_view kNotLetIn =
    "handshake_reject: it does not let us in. Our public key (curvegate pubkey) belongs into its "
    "known_hosts, its name there into the service's allow";
constexpr std::string_view kServiceDown =
    "connect_failed: the service behind it, connect = in its section, does not answer. Start that service, "
    "or see what is wrong with: curvegate check --production --dial";
constexpr std::string_view kReadItsLog =
    " Run curvegate events on the server and probe again, or read its log. It says ";

/// What a probe dials: a target of the service, and the keys of its peer that known_hosts holds.
struct Dialled {
    const config::Service& service;
    const config::Address& target;
    const std::vector<crypto::PublicKey>& keys;
    [[nodiscard]] const std::string& peer() const { return service.peer_of(target); }
};

/// CurveCP. The one place in which the probe meets it.
int shake_hands_by_curvecp(const Dialled& dialled, const Vault& vault, asio::io_context& context) {
    auto& with = *vault.impl();
    const auto& service = dialled.service;
    auto target =
        stream_target(service, {dialled.target.host, dialled.target.port, {}}, dialled.peer(), dialled.keys);
    const Instant deadline = io::now() + service.limits.connect_timeout;
    auto dialed = await<tunnel::curvecp::DialedStream>(context, [&](auto done) {
        tunnel::curvecp::dial_stream(context, *with.resolver, with.tools(), std::move(target), deadline,
                                     std::move(done));
    });
    if (!dialed) return complain(kFailed, "hello: " + dialed.error().text());
    print("cookie: the server proved key " + dialed->peer.text());
    bool accepted = false;
    dialed->tunnel->on_event = [&] {
        accepted = true;
        context.stop();
    };
    dialed->tunnel->on_end = [&](tunnel::End) { context.stop(); };
    context.restart();
    context.run();
    if (!accepted) {
        return complain(kFailed, "refused: the server does not answer our vouch." + std::string(kReadItsLog) +
                                     std::string(kNotLetIn) + ", and \"" + service.server_name +
                                     "\" is the server-name of a service there");
    }
    if (breaks_off_soon(context, *dialed->tunnel)) {
        return complain(kFailed, "refused: the server let us in and broke off at once." +
                                     std::string(kReadItsLog) + std::string(kServiceDown));
    }
    print("accepted: the server keeps the connection");
    end_stream(context, *dialed->tunnel);
    return finish_output();
}

int shake_hands_by_curve_tun(const Dialled& dialled, const Vault& vault, asio::io_context& context) {
    auto& with = *vault.impl();
    const auto& service = dialled.service;
    const io::Target target{dialled.target.host, dialled.target.port, {}};
    for (const auto& key : dialled.keys) {
        const Instant deadline = io::now() + service.limits.connect_timeout;
        auto stream = await<io::Stream>(context, [&](auto done) {
            io::dial(context, *with.resolver, target, deadline, std::move(done));
        });
        if (!stream) return complain(kFailed, "connect: " + stream.error().text());
        print("connect: " + dialled.target.text() + " answers");
        auto tunnel = await<tunnel::curve_tun::Established>(context, [&](auto done) {
            tunnel::curve_tun::start_client_handshake(std::move(*stream), with.tools(), key, deadline,
                                                      std::move(done));
        });
        if (!tunnel) {
            print("handshake: " + tunnel.error().text() + " (key " + key.text() + ")");
            continue;
        }
        print("handshake: the server proved key " + key.text());
        if (!closes_soon(context, tunnel->stream)) {
            print("accepted: the server keeps the connection");
            // Where the plain side is datagrams, an empty message would be one.
            if (service.plain_side() != service::PlainSide::datagrams) end_stream(context, *tunnel);
            return finish_output();
        }
        return complain(kFailed, "refused: the server closed after our vouch." + std::string(kReadItsLog) +
                                     "one of two things:\n  - " + std::string(kNotLetIn) + "\n  - " +
                                     std::string(kServiceDown));
    }
    return complain(kFailed, "handshake: wrong key for " + dialled.peer() + ", or not a curve_tun server");
}

int shake_hands(const config::Service& service, const config::Address& target, const Vault& vault,
                asio::io_context& context) {
    const std::string& peer = service.peer_of(target);
    const auto keys = pinned_keys(vault, peer);
    if (keys.empty()) return complain(kFailed, "pin: known_hosts has no valid key for " + peer);
    print("pin: " + std::to_string(keys.size()) + " key(s) for " + peer);
    const Dialled dialled{service, target, keys};
    return service.wire() == service::Wire::curvecp ? shake_hands_by_curvecp(dialled, vault, context)
                                                    : shake_hands_by_curve_tun(dialled, vault, context);
}

/// All targets, whatever becomes of each. One that serves is enough.
int try_all(const config::Service& service, const Vault& vault, asio::io_context& context) {
    if (service.connect.size() == 1) return shake_hands(service, service.connect.front(), vault, context);
    std::size_t good = 0;
    for (const auto& target : service.connect) {
        print("target: " + target.text());
        if (shake_hands(service, target, vault, context) == 0) ++good;
    }
    print("targets: " + std::to_string(good) + " of " + std::to_string(service.connect.size()) + " serve");
    const int written = finish_output();
    return good > 0 ? written : kFailed;
}

}  // namespace

int probe(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.value("config,c", "FILE", "the configuration (default: curvegate.conf in its usual place)")
        .operands(1, 1);
    if (const auto end = options.parse(arguments)) return *end;
    const auto parsed = load_config(options.has("config") ? options.get("config") : default_config());
    if (!parsed) return parsed.error();
    const auto service = find_client_end(parsed->config, options.operands().front());
    if (!service) return service.error();
    asio::io_context context;
    const auto vault = open_own_vault(context, *parsed);
    if (!vault) return complain(vault.error().code, "vault: " + vault.error().why);
    print("vault: ready");
    return try_all(**service, *vault, context);
}

}  // namespace curvegate::cli
