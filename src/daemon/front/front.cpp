#include "daemon/front/front.hpp"

#include "daemon/channel.hpp"
#include "daemon/front/arrival.hpp"
#include "daemon/front/audit_log.hpp"
#include "daemon/front/chronicle.hpp"
#include "daemon/front/commands.hpp"
#include "daemon/front/control.hpp"
#include "daemon/front/in_force.hpp"
#include "daemon/front/metrics.hpp"
#include "daemon/front/parent_link.hpp"
#include "daemon/front/resolver.hpp"
#include "daemon/front/services.hpp"
#include "daemon/front/snapshot.hpp"
#include "daemon/front/status_line.hpp"
#include "daemon/front/workers.hpp"
#include "io/clock.hpp"
#include "log/log.hpp"
#include "os/descriptors.hpp"
#include "os/random.hpp"
#include "os/sandbox.hpp"
#include "status/prometheus.hpp"

#include <boost/asio/post.hpp>

#include <array>
#include <cstdlib>
#include <functional>
#include <memory>
#include <system_error>
#include <utility>

namespace curvegate::daemon::front {
namespace {

using io::wall_now;
using log::Level;
using NotTaken = to_parent::NotTaken;

/// The front's own thread: it hears the parent and those who ask how the daemon is, and has the workers do
/// what follows.
class Front final : public Commands::Host {
  public:
    explicit Front(FrontSetup setup)
        : setup_(std::move(setup)),
          in_force_{std::move(setup_.config), nullptr, std::move(setup_.revoked), setup_.generation},
          link_(context_, std::move(setup_.channel)),
          timer_(context_),
          resolver_(context_, [this](const ToParent& message) { link_.send(message); }),
          services_(counters_, setup_.workers) {
        in_force_.peers_are(*setup_.registry);
        audit_->open(std::move(setup_.audit));
    }

    int run() {
        if (!start()) return EXIT_FAILURE;
        context_.run();
        workers_.stop();
        audit_->finish();
        audit_->decided({.event = "stop"});
        log_status(*counters_);
        return status_;
    }

  private:
    // ---- the start ----

    // Returns false after an error, which has been logged. No byte comes from the network before it returns.
    bool start() {
        os::keep_descriptors_back();
        if (!make_workers() || !confine()) return false;
        open_control();
        open_metrics();
        audit_->decided({.event = "start",
                         .reason = "curvegate " CURVEGATE_VERSION,
                         .count = in_force_.config->services.size()});
        if (!start_workers()) return false;
        link_.listen([this](ToFront message, os::UniqueFd fd) { hear(std::move(message), std::move(fd)); },
                     [this] { context_.stop(); });
        link_.send(to_parent::Ready{});
        return true;
    }

    bool make_workers() {
        const config::Config& config = *in_force_.config;
        audit_->configure(in_force_.generation, audit_need());
        const serve::Shared shared{admission_,
                                   std::make_shared<guard::SessionLimits>(),
                                   counters_,
                                   &resolver_,
                                   config.timeouts.of_handshakes(),
                                   config.lock_memory == config::Strictness::require
                                       ? crypto::Locking::require
                                       : crypto::Locking::attempt,
                                   audit_,
                                   config.log_addresses == config::Addresses::masked ? io::AddressForm::masked
                                                                                     : io::AddressForm::full};
        for (std::size_t i = 0; i < setup_.workers; ++i) {
            auto added = workers_.add(shared, [this, i] {
                chronicle_.vault_lost();
                link_.send(to_parent::VaultLost{static_cast<std::uint16_t>(i)});
            });
            if (!added) return start_failed(added.error().text());
        }
        workers_.apply(in_force_.registry, services_.follow(config, std::move(setup_.sockets)), nullptr);
        return true;
    }

    static bool start_failed(std::string why) {
        log::event(Level::error, "start_failed", {{"reason", std::move(why)}});
        return false;
    }

    [[nodiscard]] std::shared_ptr<guard::Admission> make_admission() const {
        os::SystemRandom random;
        return std::make_shared<guard::Admission>(in_force_.config->admission, random);
    }

    // No worker runs yet.
    [[nodiscard]] bool confine() const {
        auto done = os::harden_process();
        if (done) done = os::confine(os::Calls::front, {});
        if (done) return true;
        const bool required = in_force_.config->sandbox == config::Strictness::require;
        log::event(required ? Level::error : Level::warning, "sandbox_missing",
                   {{"reason", done.error().text()}});
        return !required;
    }

    void open_control() {
        if (!setup_.control) return;
        control_ = std::make_unique<ControlServer>(
            context_, std::move(setup_.control), setup_.control_access,
            [this](Right right, const ControlServer::Words& words,
                   const std::shared_ptr<ControlReply>& reply) { commands_.handle(right, words, reply); });
    }

    void open_metrics() {
        if (!setup_.metrics) return;
        const bool unix_socket = in_force_.config->metrics->kind == config::Address::Kind::unix_socket;
        metrics_ = std::make_unique<MetricsServer>(
            context_, std::move(setup_.metrics), unix_socket ? HttpDoor::unix_socket : HttpDoor::loopback,
            [this](std::function<void(std::string)> done) {
                take_snapshot([done = std::move(done)](const status::Snapshot& snapshot) {
                    done(status::render_prometheus(snapshot));
                });
            });
    }

    bool start_workers() {
        try {
            workers_.start();
            return true;
        } catch (const std::system_error& error) {
            return start_failed(std::string("a thread for each worker: ") + error.what() +
                                " (a higher TasksMax or ulimit -u, or fewer workers)");
        }
    }

    // ---- what the parent says ----

    // `fd` came along, or found no room.
    void hear(ToFront message, os::UniqueFd fd) {
        fd_ = std::move(fd);
        std::visit([this](auto& m) { on(m); }, message);
    }

    // The parent sends it again.
    void not_taken(NotTaken::What what, std::uint16_t worker = 0) { link_.send(NotTaken{what, worker}); }

    void on(to_front::VaultConnection& message) {
        if (message.worker >= workers_.size()) return;
        if (!fd_) return not_taken(NotTaken::What::vault, message.worker);
        workers_.attach_vault(message.worker, std::move(fd_));
    }
    void on(to_front::LogStatus&) { log_status(*counters_); }
    void on(to_front::LookAlive&) {
        take_snapshot([this](const status::Snapshot&) { link_.send(to_parent::Alive{}); });
    }
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
        if (message.what == to_front::Decided::What::reload_failed) chronicle_.reload_failed();
        commands_.decided(message.id, {.event = word, .reason = message.text});
    }
    void on(to_front::Resolved& message) { resolver_.resolved(std::move(message)); }
    void on(to_front::Told& message) { commands_.told(message.id, message.line); }
    void on(to_front::Done& message) { commands_.done(message.id, message.status); }

    void on(to_front::NewConfig&) { arrival_ = Arrival(std::move(fd_)); }
    void on(to_front::NewKnownHosts&) { arrival_.known_hosts(std::move(fd_)); }
    void on(to_front::DoorSocket& message) { arrival_.socket(message.door, std::move(fd_)); }
    void on(to_front::Apply& message) {
        Arrival arrival = std::exchange(arrival_, {});
        if (!arrival.is_whole()) return lacks_descriptors(message.id);
        auto loaded = arrival.parse();
        if (!loaded) {
            log::event(Level::error, "reload_failed", {{"reason", loaded.error().lines.front()}});
            chronicle_.reload_failed();
            return commands_.done(message.id, EXIT_FAILURE);
        }
        auto opened = arrival.sockets_for(*loaded->config, *in_force_.config);
        in_force_.config = std::move(loaded->config);
        in_force_.peers_are(*loaded->registry);
        in_force_.generation = message.generation;
        resolver_.keep_names_of(*in_force_.config);
        audit_->configure(in_force_.generation, audit_need());
        commands_.decided(message.id, {.event = "reload_ok", .count = message.changes});
        chronicle_.reloaded(wall_now());
        workers_.apply(in_force_.registry, services_.follow(*in_force_.config, std::move(opened)),
                       [this, message](std::size_t ended) {
                           commands_.applied(message.id, message.generation, ended);
                           link_.send(to_parent::Applied{message.generation});
                       });
    }

    void lacks_descriptors(std::uint32_t id) {
        not_taken(NotTaken::What::configuration);
        chronicle_.reload_failed();
        constexpr auto kWhy =
            "no descriptor is left for it; it is tried again every second until it is in force";
        commands_.decided(id, {.event = "reload_failed", .reason = kWhy});
        commands_.told(id, kWhy);
        commands_.done(id, EXIT_FAILURE);
    }

    [[nodiscard]] AuditNeed audit_need() const {
        return in_force_.config->audit_required ? AuditNeed::required : AuditNeed::attempted;
    }

    void on(to_front::Drain&) {
        log::event(Level::info, "draining", {{"sessions", counters_->sessions}});
        workers_.drain([this] { context_.stop(); });
        timer_.expires_after(in_force_.config->timeouts.drain);
        timer_.async_wait([this](error_code error) {
            if (error) return;
            log::event(Level::warning, "drain_timeout", {{"sessions", counters_->sessions}});
            status_ = EXIT_FAILURE;
            workers_.cut();  // then they are empty, and drain() tells
        });
    }

    // ---- what the control verbs need ----

    void take_snapshot(std::function<void(const status::Snapshot&)> done) override {
        workers_.report([this, done = std::move(done)](const Workers::Reports& reports) {
            status::Snapshot out;
            chronicle_.tell(out, io::now(), wall_now());
            out.generation = in_force_.generation;
            out.version = CURVEGATE_VERSION;
            out.workers = static_cast<unsigned>(workers_.size());
            out.draining = workers_.is_draining();
            out.revocations = in_force_.revoked.size();
            out.audit_failures = audit_->failures();
            fill(out, {*in_force_.config, *in_force_.registry, *counters_, *admission_, reports});
            done(out);
        });
    }

    [[nodiscard]] const registry::Registry& registry() const override { return *in_force_.registry; }

    void revoke(const std::vector<crypto::PublicKey>& keys, std::function<void(std::size_t)> done) override {
        in_force_.revoke(keys);
        workers_.apply(in_force_.registry, std::move(done));
    }

    [[nodiscard]] AuditLog& audit() override { return *audit_; }
    void tell_parent(const ToParent& message) override { link_.send(message); }
    void post(std::function<void()> work) override { asio::post(context_, std::move(work)); }

    FrontSetup setup_;  // what start() has not taken yet
    InForce in_force_;
    Chronicle chronicle_{io::now(), wall_now()};
    asio::io_context context_{1};
    ParentLink link_;
    io::Timer timer_;
    ParentResolver resolver_;
    const std::shared_ptr<AuditLog> audit_ = std::make_shared<AuditLog>();
    const std::shared_ptr<guard::Counters> counters_ = std::make_shared<guard::Counters>();
    const std::shared_ptr<guard::Admission> admission_ = make_admission();
    Services services_;
    Arrival arrival_;
    Commands commands_{*this};
    std::unique_ptr<ControlServer> control_;
    std::unique_ptr<MetricsServer> metrics_;
    Workers workers_{context_};
    os::UniqueFd fd_;  // came with the message being handled
    int status_ = EXIT_SUCCESS;
};

}  // namespace

int run(FrontSetup setup) {
    return Front(std::move(setup)).run();
}

}  // namespace curvegate::daemon::front
