#include "daemon/front.hpp"

#include "daemon/channel.hpp"
#include "log/log.hpp"
#include "net/worker.hpp"
#include "os/sandbox.hpp"

#include <boost/asio/generic/seq_packet_protocol.hpp>
#include <boost/asio/post.hpp>

#include <cstdlib>
#include <thread>
#include <unordered_map>

namespace curvegate::daemon {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using log::Level;

constexpr Duration kNamesLast = std::chrono::seconds(5);

net::Target target_of(const config::Address& address) {
    return {address.host, address.port,
            address.kind == config::Address::Kind::unix_socket ? address.path : ""};
}

net::ServiceSpec spec_of(const config::Service& service, std::size_t workers) {
    net::ServiceSpec out;
    out.name = service.name;
    out.side = service.side == config::Side::client ? net::Side::client : net::Side::server;
    out.connect = target_of(service.connect);
    out.peer = service.peer;
    out.allow = service.allow;
    out.carrier =
        service.tunnel().kind == config::Address::Kind::udp ? net::Carrier::curvecp : net::Carrier::curve_tun;
    out.plain = service.plain().kind == config::Address::Kind::udp ? net::PlainSide::datagrams
                                                                   : net::PlainSide::stream;
    if (service.server_name != "*") out.server_name = wire::curvecp::encode_server_name(service.server_name);
    out.extensions = {{service.server_extension}, {service.client_extension}};
    out.flow_idle = service.flow_idle;
    out.flows = (service.flows + workers - 1) / workers;  // the kernel spreads the sources over them
    out.end_of_stream = service.end_of_stream == config::EndOfStream::close ? net::EndOfStream::close
                                                                            : net::EndOfStream::message;
    out.connect_timeout = service.limits.connect_timeout;
    out.idle = service.limits.idle_timeout;
    out.dead_peer = service.limits.dead_peer;
    out.max_session = service.limits.max_session;
    out.sessions_per_peer = service.limits.sessions_per_peer;
    return out;
}

/// Has the parent look names up, one request a name at a time, and keeps answers for a moment. A name that no
/// longer resolves keeps its last addresses.
class ParentResolver final : public net::Resolver {
  public:
    ParentResolver(asio::io_context& context, std::function<void(const ToParent&)> send)
        : context_(context), send_(std::move(send)) {}

    void resolve(asio::io_context& caller, const std::string& host, Handler handler) override {
        asio::post(context_, [this, &caller, host, handler = std::move(handler)]() mutable {
            Name& name = names_[host];
            const bool fresh =
                !name.addresses.empty() && std::chrono::steady_clock::now() - name.asked < kNamesLast;
            if (fresh) return answer(caller, std::move(handler), name.addresses);
            name.waiting.emplace_back(&caller, std::move(handler));
            if (name.waiting.size() > 1) return;
            name.asked = std::chrono::steady_clock::now();
            hosts_[next_id_] = host;
            send_(to_parent::Resolve{next_id_++, host});
        });
    }

    void resolved(to_front::Resolved message) {
        const auto host = hosts_.find(message.id);
        if (host == hosts_.end()) return;
        Name& name = names_[host->second];
        if (!message.addresses.empty()) {
            name.addresses = std::move(message.addresses);
        } else {
            log::limited(Level::warning, "resolve_failed",
                         {{"host", host->second}, {"stale", name.addresses.empty() ? "no" : "yes"}});
        }
        hosts_.erase(host);
        for (auto& [caller, handler] : std::exchange(name.waiting, {}))
            answer(*caller, std::move(handler), name.addresses);
    }

  private:
    struct Name {
        std::vector<IpAddress> addresses;
        Instant asked;
        std::vector<std::pair<asio::io_context*, Handler>> waiting;
    };
    static void answer(asio::io_context& caller, Handler handler, std::vector<IpAddress> addresses) {
        asio::post(caller, [handler = std::move(handler), addresses = std::move(addresses)]() mutable {
            handler(std::move(addresses));
        });
    }

    asio::io_context& context_;
    std::function<void(const ToParent&)> send_;
    std::unordered_map<std::string, Name> names_;  // bounded: names stand in the configuration
    std::unordered_map<std::uint32_t, std::string> hosts_;
    std::uint32_t next_id_ = 1;
};

class Front {
  public:
    explicit Front(FrontSetup setup)
        : setup_(std::move(setup)),
          channel_(context_),
          timer_(context_),
          resolver_(context_, [this](const ToParent& message) { send(message); }) {}

    int run() {
        if (!start()) return EXIT_FAILURE;
        context_.run();
        for (auto& worker : workers_) worker->stop();
        for (auto& thread : threads_) thread.join();
        log_status("status");
        return status_;
    }

  private:
    bool start() {
        error_code error;
        channel_.assign(asio::generic::seq_packet_protocol(AF_UNIX, 0), setup_.channel.release(), error);
        channel_.non_blocking(true, error);
        if (!make_workers() || !confine()) return false;
        for (auto& worker : workers_) threads_.emplace_back([&worker = *worker] { worker.run(); });
        wait_channel();
        send(to_parent::Ready{});
        return true;
    }

    bool make_workers() {
        const config::Config& config = *setup_.config;
        os::SystemRandom random;
        const net::AdmissionLimits limits{config.admission.handshake_rate, config.admission.handshake_burst,
                                          config.admission.half_open_per_source, config.admission.half_open};
        counters_ = std::make_shared<net::Counters>();
        const net::Shared shared{setup_.registry,
                                 std::make_shared<net::Admission>(limits, random),
                                 std::make_shared<net::SessionLimits>(),
                                 counters_,
                                 &resolver_,
                                 {config.timeouts.hello, config.timeouts.vouch, config.timeouts.vault},
                                 config.timeouts.drain,
                                 config.lock_memory == config::Strictness::require
                                     ? crypto::Locking::require
                                     : crypto::Locking::attempt};
        for (const auto& service : config.services) specs_.push_back(spec_of(service, setup_.workers));
        for (std::size_t i = 0; i < setup_.workers; ++i) {
            auto worker = net::Worker::create(shared);
            if (!worker) {
                log::event(Level::error, "start_failed", {{"reason", worker.error().text()}});
                return false;
            }
            for (std::size_t s = 0; s < specs_.size(); ++s) serve(**worker, s, i);
            (*worker)->on_vault_lost = [this, i] {
                asio::post(context_,
                           [this, i] { send(to_parent::VaultLost{static_cast<std::uint16_t>(i)}); });
            };
            workers_.push_back(std::move(*worker));
        }
        return true;
    }

    // The sockets of service `s` go to worker `i`. A UDP endpoint's stand with the first service of its
    // address.
    void serve(net::Worker& worker, std::size_t s, std::size_t i) {
        const auto& services = setup_.config->services;
        auto& sockets = setup_.listeners[s];
        const bool endpoint =
            services[s].side == config::Side::server && specs_[s].carrier == net::Carrier::curvecp;
        if (!endpoint) return worker.serve(specs_[s], std::move(sockets[i]));
        if (sockets.empty()) return;
        std::vector<const net::ServiceSpec*> specs;
        for (std::size_t other = s; other < services.size(); ++other) {
            const bool same =
                services[other].side == config::Side::server && services[other].accept == services[s].accept;
            if (same) specs.push_back(&specs_[other]);
        }
        worker.serve_endpoint(std::move(specs), std::move(sockets[i]),
                              std::move(sockets[setup_.workers + i]));
    }

    // Before the first byte from the network: no worker runs yet.
    [[nodiscard]] bool confine() const {
        auto done = os::harden_process();
        if (done) done = os::confine(os::Calls::front, {});
        if (done) return true;
        const bool required = setup_.config->sandbox == config::Strictness::require;
        log::event(required ? Level::error : Level::warning, "sandbox_missing",
                   {{"reason", done.error().text()}});
        return !required;
    }

    void send(const ToParent& message) {
        (void)os::send_message(channel_.native_handle(), serialise(message));
    }

    void wait_channel() {
        channel_.async_wait(Channel::wait_read, [this](error_code error) {
            if (error) return;
            read_channel();
        });
    }

    void read_channel() {
        ByteArray<kMaxChannelMessage> buffer{};
        while (true) {
            auto received = os::receive_message(channel_.native_handle(), buffer);
            if (received && !*received) return wait_channel();
            if (!received || (*received)->size == 0) return context_.stop();  // the parent is gone
            auto message = parse_to_front(Bytes(buffer).first((*received)->size));
            if (!message) continue;
            fd_ = std::move((*received)->fd);
            std::visit([this](auto& m) { on(m); }, *message);
        }
    }

    void on(to_front::VaultConnection& message) {
        if (message.worker < workers_.size() && fd_) workers_[message.worker]->attach_vault(std::move(fd_));
    }
    void on(to_front::LogStatus&) { log_status("status"); }
    void on(to_front::Resolved& message) { resolver_.resolved(std::move(message)); }
    void on(to_front::Drain&) {
        log::event(Level::info, "draining", {{"sessions", std::to_string(counters_->sessions)}});
        busy_ = workers_.size();
        for (auto& worker : workers_) {
            worker->drain([this] {
                asio::post(context_, [this] {
                    if (--busy_ == 0) context_.stop();
                });
            });
        }
        timer_.expires_after(setup_.config->timeouts.drain);
        timer_.async_wait([this](error_code error) {
            if (error) return;
            log::event(Level::warning, "drain_timeout", {{"sessions", std::to_string(counters_->sessions)}});
            status_ = EXIT_FAILURE;
            for (auto& worker : workers_) worker->cut();  // then they are empty, and drain() tells
        });
    }

    void log_status(std::string_view word) {
        std::string refusals;
        for (const auto& [reason, count] : counters_->refusals()) {
            refusals += (refusals.empty() ? "" : "; ") + std::string(reason) + ": " + std::to_string(count);
        }
        log::event(Level::info, word,
                   {{"sessions", std::to_string(counters_->sessions)},
                    {"accepted", std::to_string(counters_->accepted)},
                    {"handshakes", std::to_string(counters_->handshakes)},
                    {"truncations", std::to_string(counters_->truncations)},
                    {"hellos", std::to_string(counters_->hellos_answered)},
                    {"hellos_dropped", std::to_string(counters_->hellos_dropped)},
                    {"datagrams_in", std::to_string(counters_->datagrams_in)},
                    {"datagrams_out", std::to_string(counters_->datagrams_out)},
                    {"datagrams_dropped", std::to_string(counters_->datagrams_dropped)},
                    {"bytes_in", std::to_string(counters_->bytes_down)},
                    {"bytes_out", std::to_string(counters_->bytes_up)},
                    {"refused", refusals}});
    }

    using Channel = asio::generic::seq_packet_protocol::socket;
    FrontSetup setup_;
    asio::io_context context_{1};
    Channel channel_;
    asio::steady_timer timer_;
    ParentResolver resolver_;
    std::shared_ptr<net::Counters> counters_;
    std::vector<net::ServiceSpec> specs_;  // before the workers, which point into it
    std::vector<std::unique_ptr<net::Worker>> workers_;
    std::vector<std::thread> threads_;
    os::UniqueFd fd_;  // came with the message being handled
    std::size_t busy_ = 0;
    int status_ = EXIT_SUCCESS;
};

}  // namespace

int run_front(FrontSetup setup) {
    return Front(std::move(setup)).run();
}

}  // namespace curvegate::daemon
