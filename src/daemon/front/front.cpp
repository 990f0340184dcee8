#include "daemon/front/front.hpp"

#include "config/include.hpp"
#include "daemon/channel.hpp"
#include "daemon/front/audit_log.hpp"
#include "daemon/front/commands.hpp"
#include "daemon/front/control.hpp"
#include "daemon/front/metrics.hpp"
#include "daemon/front/resolver.hpp"
#include "daemon/front/service_ids.hpp"
#include "daemon/front/snapshot.hpp"
#include "daemon/loaded.hpp"
#include "log/log.hpp"
#include "net/clock.hpp"
#include "net/worker.hpp"
#include "os/descriptors.hpp"
#include "os/file.hpp"
#include "os/sandbox.hpp"
#include "status/prometheus.hpp"

#include <boost/asio/generic/seq_packet_protocol.hpp>
#include <boost/asio/post.hpp>

#include <unistd.h>

#include <cstdlib>
#include <map>
#include <system_error>
#include <thread>
#include <unordered_set>

namespace curvegate::daemon::front {
namespace {

using net::wall_now;

namespace asio = boost::asio;
using boost::system::error_code;
using log::Level;
using NotTaken = to_parent::NotTaken;

constexpr std::size_t kLargestText = config::kMostText + (std::size_t{8} << 20);  // with the names of files

net::Target target_of(const config::Address& address) {
    using Kind = net::Target::UnixSocket;
    const bool records = address.kind == config::Address::Kind::seqpacket;
    return {address.host, address.port, address.path, records ? Kind::seqpacket : Kind::stream};
}

net::PlainSide plain_side(const config::Service& service) {
    switch (config::plain_form(service.plain())) {
        case config::PlainForm::stream: return net::PlainSide::stream;
        case config::PlainForm::datagrams: return net::PlainSide::datagrams;
        case config::PlainForm::records: return net::PlainSide::records;
    }
    return net::PlainSide::stream;
}

void set_targets(net::ServiceSpec& spec, const config::Service& service) {
    const bool client = service.side == config::Side::client;
    for (const config::Address& address : service.connect)
        spec.lead_to({target_of(address), client ? service.peer_of(address) : "", address.text()});
    spec.failover =
        service.failover == config::Failover::round_robin ? net::Failover::round_robin : net::Failover::prio;
    spec.counters->targets.keep(spec.target_texts);
    if (!client) return;
    for (const std::string& name : service.peers()) spec.peer += (spec.peer.empty() ? "" : ", ") + name;
}

net::ServiceSpec spec_of(const config::Config& config, const config::Service& service, std::size_t workers,
                         net::Counters& counters, net::ServiceId id) {
    net::ServiceSpec out;
    out.id = id;
    out.counters = counters.service(service.name);
    out.name = service.name;
    out.side = service.side == config::Side::client ? net::Side::client : net::Side::server;
    set_targets(out, service);
    out.allow = service.allow;
    out.carrier =
        service.tunnel().kind == config::Address::Kind::udp ? net::Carrier::curvecp : net::Carrier::curve_tun;
    out.plain = plain_side(service);
    if (service.server_name != "*") out.server_name = wire::curvecp::encode_server_name(service.server_name);
    out.extensions = {{service.server_extension}, {service.client_extension}};
    out.flow_idle = service.flow_idle;
    // The kernel spreads the sources over the workers; a socket that was passed is one worker's.
    const std::size_t takers = service.accept.passed.empty() ? workers : 1;
    out.flows = (service.flows + takers - 1) / takers;
    out.end_of_stream = service.end_of_stream == config::EndOfStream::close ? net::EndOfStream::close
                                                                            : net::EndOfStream::message;
    out.connect_timeout = service.limits.connect_timeout;
    out.idle = service.limits.idle_timeout;
    out.dead_peer = service.limits.dead_peer;
    out.max_session = service.limits.max_session;
    out.drain = config.timeouts.drain;
    out.most = {service.limits.sessions_per_peer, service.limits.sessions_per_source,
                service.limits.sessions_per_service, config.sessions};
    out.proxy = service.proxy == config::Proxy::v2;
    out.proxy_from = service.proxy_from;
    out.accept_port = service.accept.port;
    return out;
}

class Front final : public Commands::Host {
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
        audit_->finish();
        audit_->decided({.event = "stop"});
        log_status("status");
        return status_;
    }

  private:
    bool start() {
        os::keep_descriptors_back();
        error_code error;
        channel_.assign(asio::generic::seq_packet_protocol(AF_UNIX, 0), setup_.channel.release(), error);
        channel_.non_blocking(true, error);
        if (!make_workers() || !confine()) return false;
        if (setup_.control) {
            control_ =
                std::make_unique<ControlServer>(context_, std::move(setup_.control), setup_.control_access,
                                                [this](Right right, const ControlServer::Words& words,
                                                       const std::shared_ptr<ControlReply>& reply) {
                                                    commands_.handle(right, words, reply);
                                                });
        }
        if (setup_.metrics) {
            const bool unix_socket = setup_.config->metrics->kind == config::Address::Kind::unix_socket;
            metrics_ = std::make_unique<MetricsServer>(
                context_, std::move(setup_.metrics), unix_socket ? HttpDoor::unix_socket : HttpDoor::loopback,
                [this](std::function<void(std::string)> done) {
                    take_snapshot([done = std::move(done)](const status::Snapshot& snapshot) {
                        done(status::render_prometheus(snapshot));
                    });
                });
        }
        audit_->decided({.event = "start",
                         .reason = "curvegate " CURVEGATE_VERSION,
                         .count = setup_.config->services.size()});
        if (!start_threads()) return false;
        wait_channel();
        send(to_parent::Ready{});
        return true;
    }

    bool start_threads() {
        try {
            for (auto& worker : workers_) threads_.emplace_back([&worker = *worker] { worker.run(); });
            return true;
        } catch (const std::system_error& error) {
            log::event(Level::error, "start_failed",
                       {{"reason", std::string("a thread for each worker: ") + error.what() +
                                       " (a higher TasksMax or ulimit -u, or fewer workers)"}});
        }
        for (auto& worker : workers_) worker->stop();
        for (auto& thread : threads_) thread.join();
        return false;
    }

    bool make_workers() {
        const config::Config& config = *setup_.config;
        os::SystemRandom random;
        const net::AdmissionLimits limits{config.admission.handshake_rate, config.admission.handshake_burst,
                                          config.admission.half_open_per_source, config.admission.half_open};
        counters_ = std::make_shared<net::Counters>();
        admission_ = std::make_shared<net::Admission>(limits, random);
        audit_->open(std::move(setup_.audit));
        audit_->configure(setup_.generation, config.audit_required);
        const bool masked = config.log_addresses == config::Addresses::masked;
        const net::Shared shared{admission_,
                                 std::make_shared<net::SessionLimits>(),
                                 counters_,
                                 &resolver_,
                                 {config.timeouts.hello, config.timeouts.vouch, config.timeouts.vault},
                                 config.lock_memory == config::Strictness::require ? crypto::Locking::require
                                                                                   : crypto::Locking::attempt,
                                 audit_,
                                 masked ? net::AddressForm::masked : net::AddressForm::full};
        for (std::size_t i = 0; i < setup_.workers; ++i) {
            auto worker = net::Worker::create(shared);
            if (!worker) {
                log::event(Level::error, "start_failed", {{"reason", worker.error().text()}});
                return false;
            }
            (*worker)->on_vault_lost = [this, i] {
                asio::post(context_, [this, i] {
                    ++vault_lost_;
                    send(to_parent::VaultLost{static_cast<std::uint16_t>(i)});
                });
            };
            workers_.push_back(std::move(*worker));
        }
        setup_.registry = with_revoked(*setup_.registry);
        apply(std::move(setup_.sockets), nullptr);
        return true;
    }

    // What setup_ says from now on; `sockets` are those of doors that were not open before. `done` is called
    // once, on our thread, with how many connections were ended.
    void apply(DoorSockets sockets, std::function<void(std::size_t ended)> done) {
        const config::Config& config = *setup_.config;
        counters_->rename(ids_.follow(config));
        std::vector<net::SpecPtr> specs;
        specs.reserve(config.services.size());
        for (const auto& service : config.services)
            specs.push_back(std::make_shared<const net::ServiceSpec>(
                spec_of(config, service, workers_.size(), *counters_, ids_.of(service.name))));
        const auto plans = doors_of(config);
        const auto gathered = gather(std::move(done));
        for (std::size_t i = 0; i < workers_.size(); ++i) {
            std::vector<net::Door> doors;
            for (const DoorPlan& plan : plans) {
                net::Door& door = doors.emplace_back();
                door.key = plan.key;
                for (const std::size_t service : plan.services) door.specs.push_back(specs[service]);
                // Of a UDP endpoint the sockets of sessions come first, one for each worker, then the others.
                auto& row = sockets[plan.key];
                for (std::size_t s = i; s < row.size(); s += workers_.size())
                    door.sockets.push_back(std::move(row[s]));
            }
            workers_[i]->apply(setup_.registry, std::move(doors), gathered());
        }
    }

    // Makes a handler for each worker; when all have been called, `done` gets the sum on our thread.
    std::function<net::Worker::AppliedFn()> gather(std::function<void(std::size_t)> done) {
        struct Sum {
            std::size_t total = 0;
            std::size_t missing;
        };
        auto sum = std::make_shared<Sum>(Sum{0, workers_.size()});
        return [this, sum, done = std::move(done)] {
            return net::Worker::AppliedFn([this, sum, done](std::size_t ended) {
                asio::post(context_, [sum, done, ended] {
                    sum->total += ended;
                    if (--sum->missing == 0 && done) done(sum->total);
                });
            });
        };
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
        if (message.worker >= workers_.size()) return;
        if (!fd_) return not_taken(NotTaken::What::vault, message.worker);
        workers_[message.worker]->attach_vault(std::move(fd_));
    }
    void on(to_front::LogStatus&) { log_status("status"); }
    void on(to_front::LookAlive&) {
        // Round through every worker: one that hangs is no life.
        take_snapshot([this](const status::Snapshot&) { send(to_parent::Alive{}); });
    }
    // A descriptor that came along found no room: the parent sends it again.
    void not_taken(NotTaken::What what, std::uint16_t worker = 0) { send(NotTaken{what, worker}); }
    void on(to_front::NewLog&) {
        if (!fd_) return not_taken(NotTaken::What::log);
        log::redirect(fd_.get());
    }
    void on(to_front::NewAudit& message) {
        // A descriptor that got lost on the way is no word to write nothing any more.
        if (message.open && !fd_) return not_taken(NotTaken::What::audit);
        audit_->open(std::move(fd_));
        if (message.open) audit_->decided({.event = "audit_opened"});
    }
    void on(to_front::Decided& message) {
        static constexpr std::array<std::string_view, 3> kWords = {"reload_failed", "log_reopened", "drain"};
        const auto word = kWords[static_cast<std::size_t>(message.what)];
        if (message.what == to_front::Decided::What::reload_failed) ++reload_failures_;
        commands_.decided(message.id, {.event = word, .reason = message.text});
    }
    void on(to_front::Resolved& message) { resolver_.resolved(std::move(message)); }
    // ---- a new configuration ----

    void on(to_front::NewConfig&) {
        next_ = {};
        take_text(next_.config_text);
    }
    void on(to_front::NewKnownHosts&) { take_text(next_.known_hosts_text); }
    void take_text(std::string& into) {
        if (!fd_) next_.incomplete = true;
        auto text = fd_ ? os::read_memory_file(fd_.get(), kLargestText) : Result<std::string>(std::string());
        into = text ? std::move(*text) : std::string();
    }
    void on(to_front::DoorSocket& message) {
        if (!fd_) next_.incomplete = true;
        next_.sockets[message.door].push_back(std::move(fd_));
    }

    // The parent has checked all of it; that we read something else would be a defect.
    void on(to_front::Apply& message) {
        if (next_.incomplete) {
            next_ = {};
            not_taken(NotTaken::What::configuration);
            ++reload_failures_;
            constexpr auto kWhy =
                "no descriptor is left for it; it is tried again every second until it is in force";
            commands_.decided(message.id, {.event = "reload_failed", .reason = kWhy});
            commands_.told(message.id, kWhy);
            return commands_.done(message.id, EXIT_FAILURE);
        }
        auto sources = config::unpack(next_.config_text);
        auto loaded = sources
                          ? parse(std::move(*sources), std::move(next_.known_hosts_text))
                          : std::unexpected(LoadFailure{EXIT_FAILURE, {"no whole configuration has come"}});
        if (!loaded) {
            log::event(Level::error, "reload_failed", {{"reason", loaded.error().lines.front()}});
            ++reload_failures_;
            return commands_.done(message.id, EXIT_FAILURE);
        }
        std::unordered_set<std::string> open;
        for (DoorPlan& plan : doors_of(*setup_.config)) open.insert(std::move(plan.key));
        setup_.config = std::move(loaded->config);
        setup_.registry = with_revoked(*loaded->registry);
        setup_.generation = message.generation;
        resolver_.keep_names_of(*setup_.config);
        audit_->configure(setup_.generation, setup_.config->audit_required);
        commands_.decided(message.id, {.event = "reload_ok", .count = message.changes});
        loaded_at_ = wall_now();
        ++reloads_;
        const auto plans = doors_of(*setup_.config);
        DoorSockets opened;
        for (auto& [door, sockets] : next_.sockets) {
            // When all are sent again there are some that are open here already.
            if (door < plans.size() && !open.contains(plans[door].key))
                opened[plans[door].key] = std::move(sockets);
        }
        next_ = {};
        apply(std::move(opened), [this, message](std::size_t ended) {
            commands_.applied(message.id, message.generation, ended);
            send(to_parent::Applied{message.generation});
        });
    }
    void on(to_front::Told& message) { commands_.told(message.id, message.line); }
    void on(to_front::Done& message) { commands_.done(message.id, message.status); }

    // Until the end of the process, whatever becomes of the file.
    [[nodiscard]] std::shared_ptr<const registry::Registry> with_revoked(
        const registry::Registry& registry) const {
        return std::make_shared<const registry::Registry>(registry.with_revoked(setup_.revoked));
    }

    // ---- commands ----

    void take_snapshot(std::function<void(const status::Snapshot&)> done) override {
        auto reports = std::make_shared<std::vector<net::Worker::Report>>();
        for (auto& worker : workers_) {
            worker->report([this, reports, done](net::Worker::Report report) {
                asio::post(context_, [this, reports, done, report = std::move(report)]() mutable {
                    reports->push_back(std::move(report));
                    if (reports->size() == workers_.size()) done(snapshot_of(*reports));
                });
            });
        }
    }

    [[nodiscard]] status::Snapshot snapshot_of(const std::vector<net::Worker::Report>& reports) const {
        status::Snapshot out;
        out.now = wall_now();
        out.started = started_wall_;
        out.uptime = net::now() - started_;
        out.generation = setup_.generation;
        out.loaded = loaded_at_;
        out.version = CURVEGATE_VERSION;
        out.workers = static_cast<unsigned>(workers_.size());
        out.draining = busy_ > 0;
        out.vault.lost = vault_lost_;
        out.revocations = setup_.revoked.size();
        out.reloads = reloads_;
        out.reload_failures = reload_failures_;
        out.audit_failures = audit_->failures();
        fill(out, {*setup_.config, *setup_.registry, *counters_, *admission_, reports});
        return out;
    }

    [[nodiscard]] const registry::Registry& registry() const override { return *setup_.registry; }

    void revoke(const std::vector<crypto::PublicKey>& keys, std::function<void(std::size_t)> done) override {
        setup_.revoked.insert(setup_.revoked.end(), keys.begin(), keys.end());
        setup_.registry = with_revoked(*setup_.registry);
        const auto gathered = gather(std::move(done));
        for (auto& worker : workers_) worker->apply(setup_.registry, gathered());
    }

    [[nodiscard]] AuditLog& audit() override { return *audit_; }
    void tell_parent(const ToParent& message) override { send(message); }
    void post(std::function<void()> work) override { asio::post(context_, std::move(work)); }

    // ---- the end ----

    void on(to_front::Drain&) {
        log::event(Level::info, "draining", {{"sessions", counters_->sessions}});
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
            log::event(Level::warning, "drain_timeout", {{"sessions", counters_->sessions}});
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
                   {{"sessions", counters_->sessions},
                    {"accepted", counters_->accepted},
                    {"handshakes", counters_->handshakes},
                    {"truncations", counters_->truncations},
                    {"hellos", counters_->hellos_answered},
                    {"hellos_dropped", counters_->hellos_dropped},
                    {"datagrams_in", counters_->datagrams_in},
                    {"datagrams_out", counters_->datagrams_out},
                    {"datagrams_dropped", counters_->datagrams_dropped},
                    {"bytes_in", counters_->bytes_down},
                    {"bytes_out", counters_->bytes_up},
                    {"refused", refusals}});
    }

    using Channel = asio::generic::seq_packet_protocol::socket;
    FrontSetup setup_;
    asio::io_context context_{1};
    Channel channel_;
    asio::steady_timer timer_;
    ParentResolver resolver_;
    const std::shared_ptr<AuditLog> audit_ = std::make_shared<AuditLog>();
    std::shared_ptr<net::Counters> counters_;
    ServiceIds ids_;
    std::shared_ptr<net::Admission> admission_;
    const Instant started_ = net::now();
    const WallTime started_wall_ = wall_now();
    WallTime loaded_at_ = started_wall_;
    std::uint64_t vault_lost_ = 0;
    std::uint64_t reloads_ = 0;
    std::uint64_t reload_failures_ = 0;
    struct {
        std::string config_text;
        std::string known_hosts_text;
        std::map<std::size_t, std::vector<os::UniqueFd>> sockets;  // by the door's place
        bool incomplete = false;                                   // a descriptor found no room
    } next_;                                                       // a configuration that is coming
    Commands commands_{*this};
    std::unique_ptr<ControlServer> control_;
    std::unique_ptr<MetricsServer> metrics_;
    std::vector<std::unique_ptr<net::Worker>> workers_;
    std::vector<std::thread> threads_;
    os::UniqueFd fd_;  // came with the message being handled
    std::size_t busy_ = 0;
    int status_ = EXIT_SUCCESS;
};

}  // namespace

int run(FrontSetup setup) {
    return Front(std::move(setup)).run();
}

}  // namespace curvegate::daemon::front
