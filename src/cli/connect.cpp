#include "cli/client_end.hpp"
#include "cli/exit.hpp"
#include "cli/options.hpp"
#include "cli/places.hpp"
#include "cli/stdio.hpp"
#include "cli/verbs.hpp"
#include "forward/byte_forwarder.hpp"
#include "io/clock.hpp"
#include "os/sandbox.hpp"
#include "serve/try_targets.hpp"
#include "tunnel/scratch.hpp"
#include "wires/wires.hpp"

#include <boost/asio/signal_set.hpp>

#include <csignal>

namespace curvegate::cli {
namespace {

using forward::Ending;

constexpr int kBySignal = 128;  // and the signal's number, as a shell says it
constexpr Duration kSweep = std::chrono::seconds(1);
constexpr Duration kLastInput = std::chrono::milliseconds(50);  // until the end of a closed pipe is seen
constexpr Duration kLastWord = std::chrono::seconds(1);         // of a peer that was told our end

int exit_of(const Error& error) {
    if (error.is(io::DialErrc::wrong_key)) return exit_code::kProtocol;
    if (error.is(io::DialErrc::no_pin)) return exit_code::kConfig;
    return exit_code::kUnavailable;
}

int exit_of(Ending ending) {
    switch (ending) {
        case Ending::orderly: return exit_code::kOk;
        case Ending::tunnel_cut:
        case Ending::unheard_end:
        case Ending::bad_length:
        case Ending::bad_message:
        case Ending::after_end: return exit_code::kProtocol;
        case Ending::dead_peer:
        case Ending::no_answer:
        case Ending::cannot_ask: return exit_code::kUnavailable;
        case Ending::plain_reset: return exit_code::kIoError;
        default: return exit_code::kFailed;
    }
}

/// Of several targets that failed, the status that tells most: a server that is not the pinned one, then a
/// pin that is missing, then one that is not there.
int more_telling(int a, int b) {
    for (const int code : {exit_code::kProtocol, exit_code::kConfig}) {
        if (a == code || b == code) return code;
    }
    return exit_code::kUnavailable;
}

std::string words_of(const forward::ForwarderSummary& summary) {
    std::string out(forward::describe(summary.ending));
    if (summary.ending == Ending::tunnel_cut && summary.bytes_down == 0)
        out +=
            " and before a byte came: the server does not let our key in, or the service behind it does not "
            "answer (curvegate probe SECTION says what to look at)";
    return out;
}

/// One tunnel between standard input and output, from the dialling to the end, on one thread's io_context.
class Connection {
  public:
    Connection(asio::io_context& context, const config::Config& config, const config::Service& service,
               Vault vault, StandardFds fds)
        : context_(context),
          config_(config),
          service_(service),
          vault_(std::move(vault)),
          signals_(context, SIGINT, SIGTERM, SIGHUP),  // ssh ends its ProxyCommand by HUP
          sweep_(context),
          stdio_(
              context, std::move(fds), [this](const auto& why) { local_side_failed(*why); },
              [this](const auto& why) { output_ended(why); }),
          opener_(wires::of(service.wire()).make_opener(vault_.impl()->lent(&scratch_))) {}

    /// The exit code; failures are told.
    int run() {
        wait_signal();
        dial();
        context_.run();
        return code_;
    }

  private:
    /// The targets of the section, in their order, until one answers.
    void dial() {
        const Instant deadline = io::now() + service_.limits.connect_timeout;
        auto spec = std::make_shared<serve::ServiceSpec>();
        spec->name = service_.name;
        spec->side = serve::Side::client;
        for (const auto& target : service_.connect)
            spec->lead_to({{target.host, target.port, {}}, service_.peer_of(target), target.text()});
        using Tries = serve::TargetTries<std::unique_ptr<tunnel::Tunnel>>;
        auto dial_one = [this, deadline](const serve::ServiceTarget& target, Instant until,
                                         Tries::TriedFn tried) {
            auto opened = [this,
                           tried = std::move(tried)](Result<std::unique_ptr<tunnel::Tunnel>> result) mutable {
                if (!result) failed_with_ = more_telling(failed_with_, exit_of(result.error()));
                tried(std::move(result));
            };
            tunnel::Opening wanted{target.address,
                                   target.peer,
                                   pinned_keys(vault_, target.peer),
                                   service_.wire_options(),
                                   service_.limits.dead_peer,
                                   until,
                                   {}};
            if (until != deadline) wanted.confirm_by = deadline;
            opener_->open(std::move(wanted), std::move(opened), nullptr);
        };
        serve::try_targets<std::unique_ptr<tunnel::Tunnel>>(
            std::move(spec), deadline, std::move(dial_one),
            [this](Result<std::unique_ptr<tunnel::Tunnel>> opened, const serve::ServiceTarget*) {
                if (!opened) return fail(opened.error());
                forward(**opened);
            });
    }

    void forward(tunnel::Tunnel& tunnel) {
        auto plain = local_side();
        if (!plain) return;
        undelivered_ = tunnel.outlive(nullptr, [this] { delivered(); }).lock();
        begin(std::move(*plain), tunnel.bytes());
    }

    /// From here on nothing is opened and nobody is dialled any more, so it is confined before it carries
    /// a byte.
    std::optional<io::Stream> local_side() {
        if (auto confined = os::confine(os::Calls::front, {}); !confined) {
            if (config_.sandbox == config::Strictness::require) {
                fail(confined.error());
                return std::nullopt;
            }
        }
        auto socket = stdio_.start();
        if (!socket) {
            fail(socket.error());
            return std::nullopt;
        }
        return io::Stream(context_, asio::generic::stream_protocol(AF_UNIX, 0), socket->release());
    }

    [[nodiscard]] forward::ForwarderLimits limits() const {
        forward::ForwarderLimits out{
            service_.limits.idle_timeout, service_.limits.dead_peer, {}, config_.timeouts.drain};
        if (service_.limits.max_session) out.max_session = io::now() + *service_.limits.max_session;
        return out;
    }

    void begin(io::Stream plain, std::unique_ptr<tunnel::ByteTunnel> tunnel) {
        forwarder_ = std::make_shared<forward::ByteForwarder>(std::move(plain), std::move(tunnel), limits());
        forwarder_->start([this](const forward::ForwarderSummary& summary) { tunnel_ended(summary); });
        sweep();
    }

    void sweep() {
        sweep_.expires_after(kSweep);
        sweep_.async_wait([this](error_code error) {
            const auto forwarder = forwarder_;  // it may end from within
            if (error || !forwarder) return;
            forwarder->sweep(io::now());
            sweep();
        });
    }

    // ---- the end: the tunnel's, that of standard output, and where the wire delivers its last
    // acknowledgment ----

    void tunnel_ended(const forward::ForwarderSummary& summary) {
        forwarder_.reset();
        tunnel_ended_ = true;
        if (summary.ending != Ending::orderly) {
            delivered_ = true;  // or never
            note(exit_of(summary.ending), "[" + service_.name + "] " + words_of(summary));
        }
        finish_if_over();
    }

    void delivered() {
        delivered_ = true;
        finish_if_over();
    }

    void output_ended(const std::optional<std::string>& why) {
        output_ended_ = true;
        if (why) local_side_failed(*why);
        finish_if_over();
    }

    /// The peer must not take it for an end.
    void local_side_failed(const std::string& why) {
        note(exit_code::kIoError, why);
        if (const auto forwarder = forwarder_) forwarder->stop(Ending::plain_reset);
    }

    void wait_signal() {
        signals_.async_wait([this](error_code error, int number) {
            if (!error) end_by_signal(number);
        });
    }

    /// At once, but for a tunnel over udp whose direction to the peer has ended: then the peer ends too, and
    /// a server that nobody answers keeps the connection until dead-peer. ssh closes its pipes and sends HUP.
    void end_by_signal(int number) {
        told_ = true;
        const bool again = std::exchange(code_, kBySignal + number) >= kBySignal;
        if (again || !undelivered_) return stop();
        wait_signal();
        const Instant since = io::now();
        io::when_drained(
            sweep_.get_executor(), kLastWord,
            [this, since] { return io::now() - since >= kLastInput && !undelivered_->end_is_told(); },
            [this] { stop(); });
    }

    void stop() {
        if (const auto forwarder = forwarder_) forwarder->stop(Ending::stopped);
        context_.stop();
    }

    void fail(const Error& error) {
        const int code = error.is(io::DialErrc::no_target) ? failed_with_ : exit_of(error);
        note(code, "[" + service_.name + "] " + error.text());
        context_.stop();
    }

    /// The first thing that goes wrong is what is told; the rest follows from it.
    void note(int code, const std::string& why) {
        if (!std::exchange(told_, true)) code_ = complain(code, why);
    }

    void finish_if_over() {
        if (!tunnel_ended_ || !output_ended_ || (undelivered_ && !delivered_)) return;
        if (undelivered_ && undelivered_->owes_bytes())  // told already if it was cut
            note(exit_code::kUnavailable,
                 "[" + service_.name + "] peer does not answer, and may lack the last bytes");
        context_.stop();
    }

    asio::io_context& context_;
    const config::Config& config_;
    const config::Service& service_;
    Vault vault_;
    asio::signal_set signals_;
    io::Timer sweep_;
    tunnel::Scratch scratch_;
    Stdio stdio_;
    std::shared_ptr<forward::ForwarderBase> forwarder_;
    std::unique_ptr<tunnel::Opener> opener_;
    std::shared_ptr<tunnel::Remains> undelivered_;  // of which the last acknowledgment is awaited
    bool delivered_ = false;
    bool tunnel_ended_ = false;
    bool output_ended_ = false;
    bool told_ = false;
    int failed_with_ = exit_code::kUnavailable;  // what the targets that were tried say together
    int code_ = exit_code::kOk;
};

}  // namespace

int connect(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.value("config,c", "FILE", "the configuration (default: curvegate.conf in its usual place)")
        .operands(1, 1);
    if (const auto end = options.parse(arguments)) return *end;
    auto fds = take_standard_descriptors();
    if (!fds) return complain(exit_code::kIoError, fds.error().text());
    const auto parsed = load_config(options.has("config") ? options.get("config") : default_config());
    if (!parsed) return parsed.error();
    const auto service = find_client_end(parsed->config, options.operands().front());
    if (!service) return service.error();
    if (const auto side = (*service)->plain_side(); side != service::PlainSide::stream) {
        const bool records = side == service::PlainSide::records;
        return complain(exit_code::kUsage, "[" + (*service)->name + "] carries " +
                                               (records ? "records" : "datagrams") +
                                               ", and standard input is a stream");
    }
    std::signal(SIGPIPE,
                SIG_IGN);  // NOLINT(cert-err33-c): it cannot fail; a closed pipe is an error of write()
    asio::io_context context(1);
    auto vault = open_own_vault(context, *parsed);
    if (!vault) return complain(vault.error().code, "vault: " + vault.error().why);
    if (auto hardened = os::harden_process(); !hardened)
        return complain(exit_code::kUnavailable, hardened.error().text());
    return Connection(context, parsed->config, **service, std::move(*vault), std::move(*fds)).run();
}

}  // namespace curvegate::cli
