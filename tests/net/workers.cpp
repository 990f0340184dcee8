#include "os/secret_pages.hpp"
#include "serve/worker.hpp"

#include "io/clock.hpp"
#include "io/listen.hpp"
#include "log/log.hpp"
#include "support/loop.hpp"
#include "support/names.hpp"
#include "support/toy_wire.hpp"
#include "support/vault.hpp"
#include "tunnel/curve_tun/wire.hpp"
#include "tunnel/curvecp/wire.hpp"
#include "vault/server.hpp"

#include <boost/asio/executor_work_guard.hpp>

#include <catch2/catch.hpp>

#include <optional>
#include <thread>

/// A client end and a server end, each a worker on a thread of its own, with a vault on a third: what
/// curvegated wires together, in one program, so that ThreadSanitizer sees all of it.
namespace curvegate::serve {
namespace {

using namespace std::chrono_literals;
using test::Local;
using test::pattern;

struct Fds {
    os::UniqueFd ours;
    os::UniqueFd theirs;
};
Fds seqpacket() {
    auto pair = os::seqpacket_pair();
    REQUIRE(pair.has_value());
    return {std::move(pair->first), std::move(pair->second)};
}

/// A vault with a key of each role; a pool is for one thread, so it has its own.
class VaultThread {
  public:
    explicit VaultThread(std::vector<os::UniqueFd> connections)
        : pool_(std::move(*crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 1'000))),
          server_key(*public_key_of(secret(1))),
          client_key(*public_key_of(secret(2))),
          service_(vault::Service::Key{{vault::KeyRole::server, server_key, secret(1)}, &nonces_},
                   vault::Service::Key{{vault::KeyRole::client, client_key, secret(2)}, &nonces_}, trusted_),
          server_(service_, {}, [](std::string_view) {}) {
        for (auto& connection : connections) server_.add(std::move(connection));
        server_.end_with(end_.theirs.get());
        thread_ = std::thread([this] { server_.run(); });
    }
    ~VaultThread() {
        end_.ours.reset();
        thread_.join();
    }
    VaultThread(const VaultThread&) = delete;
    VaultThread& operator=(const VaultThread&) = delete;

  private:
    crypto::LongTermSecret secret(Byte number) {
        auto bytes = test::secret_bytes(number);
        return std::move(*crypto::LongTermSecret::adopt(*pool_, bytes));
    }
    std::unique_ptr<crypto::SecretPool> pool_;

  public:
    const crypto::PublicKey server_key;
    const crypto::PublicKey client_key;

  private:
    test::ScriptedNonces nonces_;
    test::TrustsAll trusted_;
    vault::Service service_;
    vault::Server server_;
    Fds end_ = seqpacket();
    std::thread thread_;
};

/// A listening socket on loopback, and its port.
std::pair<os::UniqueFd, std::uint16_t> listening() {
    asio::io_context context;
    io::tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
    const auto port = acceptor.local_endpoint().port();
    return {os::UniqueFd(acceptor.release()), port};
}

/// The sockets on loopback that a server end over that transport listens on, and their port.
std::pair<std::vector<os::UniqueFd>, std::uint16_t> sockets_for(service::Transport transport) {
    if (transport == service::Transport::udp) {
        auto pair = io::open_udp_endpoint({*IpAddress::parse("127.0.0.1"), 0, "a test"}, 1);
        REQUIRE(pair.has_value());
        const auto port = io::port_of(pair->front().get());
        return {std::move(*pair), port};
    }
    auto [socket, port] = listening();
    std::vector<os::UniqueFd> out;
    out.push_back(std::move(socket));
    return {std::move(out), port};
}

io::Target local_port(std::uint16_t port) {
    return {"127.0.0.1", port, {}};
}

ServiceSpec client_end_of(const tunnel::Wire& wire, const io::Target& tunnel) {
    ServiceSpec out;
    out.wire = &wire;
    out.name = "client-end";
    out.side = Side::client;
    out.lead_to({tunnel, "server", "tunnel"});
    out.peer = "server";
    return out;
}

/// What all workers share, and a registry that knows both keys of the vault.
struct Common {
    explicit Common(const VaultThread& vault) {
        auto entries =
            registry::parse_known_hosts("server curve25519 " + vault.server_key.text() +
                                            "\nclient curve25519 " + vault.client_key.text() + "\n",
                                        "known_hosts");
        REQUIRE(entries.has_value());
        registry = std::make_shared<const registry::Registry>(std::move(*entries));
        shared.admission = std::make_shared<guard::Admission>(guard::AdmissionLimits{}, random);
        shared.sessions = std::make_shared<guard::SessionLimits>();
        shared.counters = std::make_shared<guard::Counters>();
        shared.resolver = &resolver;
        shared.locking = crypto::Locking::attempt;
    }

    test::SeededRandom random{1};
    test::Names resolver;
    Shared shared;
    Worker::RegistryPtr registry;
};

/// A worker and the thread that it runs on.
class WorkerThread {
  public:
    WorkerThread(const Shared& shared, const Worker::RegistryPtr& registry, const ServiceSpec& spec,
                 std::vector<os::UniqueFd> sockets, os::UniqueFd vault)
        : worker_(std::move(*Worker::create(shared))) {
        std::vector<Door> doors(1);
        doors[0].key = spec.name;
        doors[0].specs.push_back(std::make_shared<const ServiceSpec>(spec));
        doors[0].sockets = std::move(sockets);
        worker_->apply(registry, std::move(doors), nullptr);
        worker_->attach_vault(std::move(vault));
        thread_ = std::thread([this] { worker_->run(); });
    }
    ~WorkerThread() {
        worker_->stop();
        thread_.join();
    }
    WorkerThread(const WorkerThread&) = delete;
    WorkerThread& operator=(const WorkerThread&) = delete;

    void drain(std::function<void()> done) { worker_->drain(std::move(done)); }

  private:
    std::unique_ptr<Worker> worker_;
    std::thread thread_;
};

/// Sends something through the tunnel to a plain server in the same loop, which sends it back at its end.
struct Visitor {
    Local near;
    test::Buffer data;
    std::size_t sent = 0;
    bool told = false;

    void step() {
        near.read();
        if (sent < data.size()) sent += near.write(Bytes(data).subspan(sent));
        if (sent == data.size() && !std::exchange(told, true)) near.end();
    }
};
struct Echo {
    Local far;
    std::size_t sent = 0;
    bool told = false;

    void step() {
        far.read();
        if (far.ended && sent < far.got.size()) sent += far.write(Bytes(far.got).subspan(sent));
        if (far.ended && sent == far.got.size() && !std::exchange(told, true)) far.end();
    }
};

TEST_CASE("two workers and a vault on threads of their own carry many connections at once, over any wire",
          "[net][workers]") {
    constexpr int kVisitors = 24;
    const tunnel::Wire& wire =
        *GENERATE(&tunnel::curve_tun::kWire, &tunnel::curvecp::kWire, &test::toy::kWire);
    log::configure(log::Level::error, log::Format::text, log::Head::time, STDERR_FILENO);
    Fds first = seqpacket();
    Fds second = seqpacket();
    std::vector<os::UniqueFd> vault_ends;
    vault_ends.push_back(std::move(first.theirs));
    vault_ends.push_back(std::move(second.theirs));
    const VaultThread vault(std::move(vault_ends));

    asio::io_context context;
    io::tcp::acceptor plain(context, {asio::ip::address_v4::loopback(), 0});
    plain.non_blocking(true);
    auto [tunnel_sockets, tunnel_port] = sockets_for(wire.transport());
    auto [local_sockets, local] = sockets_for(service::Transport::tcp);

    Common common(vault);
    // Nobody listens at the first one: which of the two answers is remembered.
    const std::vector<ScopedIp> both = {*IpAddress::parse("127.0.0.2"), *IpAddress::parse("127.0.0.1")};
    const io::Target tunnel{"tunnel.example", tunnel_port, {}};
    const bool over_udp = wire.transport() == service::Transport::udp;
    common.resolver.known[tunnel.host] = over_udp ? std::vector{both.back()} : both;
    const Shared& shared = common.shared;
    ServiceSpec server_end;
    server_end.name = "server-end";
    server_end.wire = &wire;
    server_end.lead_to({local_port(plain.local_endpoint().port()), "", "plain"});
    server_end.allow.names = {"client"};
    ServiceSpec client_end = client_end_of(wire, tunnel);
    client_end.options.server_name = "server-end";
    std::optional<WorkerThread> server(std::in_place, shared, common.registry, server_end,
                                       std::move(tunnel_sockets), std::move(first.ours));
    std::optional<WorkerThread> client(std::in_place, shared, common.registry, client_end,
                                       std::move(local_sockets), std::move(second.ours));

    std::vector<Visitor> visitors;
    for (int i = 0; i < kVisitors; ++i) {
        io::tcp::socket socket(context);
        socket.connect({asio::ip::address_v4::loopback(), local});
        visitors.push_back({{io::Stream(std::move(socket)), {}, false, {}},
                            pattern(10'000U * static_cast<unsigned>(i)),
                            0,
                            false});
        visitors.back().near.stream.non_blocking(true);
    }
    std::vector<Echo> echoes;
    REQUIRE(test::run_until(context, [&] {
        error_code error;
        for (auto socket = plain.accept(error); !error; socket = plain.accept(error)) {
            echoes.push_back({{io::Stream(std::move(socket)), {}, false, {}}, 0, false});
            echoes.back().far.stream.non_blocking(true);
        }
        for (auto& visitor : visitors) visitor.step();
        for (auto& echo : echoes) echo.step();
        return std::ranges::all_of(visitors,
                                   [](const Visitor& one) { return one.near.ended || one.near.broken; });
    }));
    for (const auto& visitor : visitors) {
        CHECK(visitor.near.ended);
        CHECK(test::same(visitor.near.got, visitor.data));
    }

    std::atomic<int> drained{0};
    server->drain([&] { ++drained; });
    client->drain([&] { ++drained; });
    REQUIRE(test::run_until(context, [&] { return drained == 2; }));
    CHECK(shared.counters->handshakes == 2 * kVisitors);
    CHECK(shared.counters->sessions == 0);
    CHECK(shared.counters->truncations == 0);
    CHECK(shared.counters->refusals().empty());
    CHECK(shared.admission->half_open() == 0);
    if (!over_udp) {
        CHECK(shared.sessions->in_all() == 0);
        CHECK(common.resolver.good()->order(tunnel.text(), both, io::now()).front() == both.back());
    }
    server.reset();
    client.reset();
    CHECK(shared.sessions->in_all() == 0);  // over UDP a tunnel has its place as long as it has memory
}

TEST_CASE("who connected before the worker ran gets a reset too when the tunnel cannot be made",
          "[net][workers]") {
    log::configure(log::Level::error, log::Format::text, log::Head::time, STDERR_FILENO);
    Fds connection = seqpacket();
    std::vector<os::UniqueFd> vault_ends;
    vault_ends.push_back(std::move(connection.theirs));
    const VaultThread vault(std::move(vault_ends));
    auto [local_sockets, local] = sockets_for(service::Transport::tcp);
    const auto refused = listening().second;  // nobody listens there any more

    // The connection waits in the queue of a socket that no worker has seen.
    asio::io_context context;
    io::tcp::socket early(context);
    early.connect({asio::ip::address_v4::loopback(), local});

    const Common common(vault);
    const WorkerThread client(common.shared, common.registry,
                              client_end_of(tunnel::curve_tun::kWire, local_port(refused)),
                              std::move(local_sockets), std::move(connection.ours));
    early.non_blocking(true);
    std::array<Byte, 1> byte{};
    error_code end = asio::error::would_block;
    REQUIRE(test::run_until(context, [&] {
        early.read_some(asio::buffer(byte), end);
        return end != asio::error::would_block;
    }));
    CHECK(end == asio::error::connection_reset);  // and no end of file
}

}  // namespace
}  // namespace curvegate::serve
