#pragma once

#include "io/chunk_pool.hpp"
#include "log/log.hpp"
#include "os/socket.hpp"
#include "support/vault.hpp"
#include "tunnel/curvecp/client_tunnel.hpp"
#include "tunnel/curvecp/endpoint.hpp"
#include "tunnel/curvecp/session_tunnel.hpp"
#include "virtual/app.hpp"
#include "virtual/clock.hpp"
#include "virtual/network.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <deque>
#include <memory>

/// A CurveCP server and its clients on a simulated network under virtual time, with their vaults, on one
/// thread: nothing sleeps.
namespace curvegate::test {

/// A vault at the other end of a real socket pair.
class Desk {
  public:
    Desk(asio::io_context& context, vault::KeyRole role, Byte secret, Duration timeout)
        : vault(role, secret_bytes(secret)),
          client(context, timeout, vault_client::VaultClient::Detached::fail) {
        auto pair = os::seqpacket_pair();
        end_ = std::move(pair.value().first);
        REQUIRE(::fcntl(end_.get(), F_SETFL, O_NONBLOCK) == 0);
        client.attach(std::move(pair->second));
    }

    TestVault vault;
    vault_client::VaultClient client;
    Duration takes{};     ///< between a question and its answer
    bool silent = false;  ///< reads, and answers nothing until this is false again
    std::size_t asked = 0;

    /// Reads what came and answers what is due. True: there was something.
    bool serve(Instant now) {
        bool busy = false;
        vault::MessageBuffer buffer;
        for (;;) {
            const auto received = os::receive_message(end_.get(), buffer);
            if (!received || !*received) break;
            const auto request = vault::parse_request(Bytes(buffer).first((*received)->size));
            questions_.push_back({now + takes, request.value()});
            ++asked;
            busy = true;
        }
        while (!silent && !questions_.empty() && questions_.front().due <= now) {
            const auto request = questions_.front().request;
            questions_.pop_front();
            const auto answer = serialise(vault::Reply{request.id, vault.ask(request.body)}, buffer);
            (void)os::send_message(end_.get(), answer);
            busy = true;
        }
        return busy;
    }
    [[nodiscard]] Deadline next() const {
        return silent || questions_.empty() ? std::nullopt : Deadline(questions_.front().due);
    }

  private:
    struct Question {
        Instant due;
        vault::Request request;
    };
    os::UniqueFd end_;
    std::deque<Question> questions_;
};

inline constexpr std::uint64_t kUp = 11;  // seeds of contents
inline constexpr std::uint64_t kDown = 12;

class World {
  public:
    explicit World(std::uint64_t seed = 1)
        : network(seed),
          context(std::make_unique<asio::io_context>()),
          random(seed),
          server_desk(*context, vault::KeyRole::server, 1, kVaultTimeout),
          client_desk(*context, vault::KeyRole::client, 2, kVaultTimeout),
          keeper(*cookie::Keeper::create(pool(), random, io::now())),
          endpoint(std::make_unique<tunnel::curvecp::CurvecpEndpoint>(
              environment(), server_socket(Takes::sessions), server_socket(Takes::hellos),
              [this](const Path&) { return std::make_shared<Visitor>(*this); })) {
        log::configure(log::Level::error, log::Format::text, log::Head::time, STDERR_FILENO);
        endpoint->start();
    }
    ~World() {
        for (const auto& client : clients) {
            if (const auto tunnel = client->tunnel.lock()) tunnel->drop();
        }
        endpoint->close();
        clients.clear();
        served.clear();
        run_for({});
        endpoint.reset();
    }
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    static constexpr Duration kVaultTimeout = std::chrono::seconds(5);
    const IpEndpoint server = place("192.0.2.1", 4433);
    const IpEndpoint home = place("198.51.100.7", 40'000);  ///< where the first client is

    const Instant begin = start_time();  // before anything asks for the time
    Network network;
    io::ChunkPool chunks;
    std::unique_ptr<asio::io_context> context;  // may hold the last reference to a tunnel
    SeededRandom random;
    Desk server_desk;
    Desk client_desk;
    cookie::Keeper keeper;
    std::shared_ptr<guard::Counters> counters = std::make_shared<guard::Counters>();
    std::unique_ptr<tunnel::curvecp::CurvecpEndpoint> endpoint;
    const service::WireOptions options{};

    // ---- what became of it ----

    struct Client {
        Socket* socket = nullptr;                                 // the tunnel owns it
        std::shared_ptr<tunnel::curvecp::ClientTunnel> dialling;  ///< until it is told
        std::weak_ptr<tunnel::curvecp::ClientTunnel> tunnel;
        std::optional<Error> failed;
        std::optional<Instant> told;  ///< when it was told that it may speak, or never will
        std::unique_ptr<App> app;
    };
    std::vector<std::unique_ptr<Client>> clients;
    std::vector<std::unique_ptr<App>> served;  ///< in their order
    std::vector<Error> refused;                ///< Initiates whose cookie had opened
    bool welcome_elsewhere = true;             ///< clients may come from another address
    Duration dead_peer = std::chrono::seconds(60);

    /// A client that says Hello now.
    Client& dial(const IpEndpoint& from, Duration limit = std::chrono::seconds(10)) {
        auto& client = *clients.emplace_back(std::make_unique<Client>());
        auto socket = std::make_unique<Socket>(*context, network, from);
        client.socket = socket.get();
        const tunnel::HandshakeTools tools{&client_desk.client, nullptr, &pool(), &random, &chunks, {}};
        client.dialling = std::make_shared<tunnel::curvecp::ClientTunnel>(
            *context, std::move(socket), tools,
            tunnel::curvecp::ClientTunnel::Options{
                {server_desk.vault.key, {}, *wire::curvecp::encode_server_name("server")},
                server,
                io::now() + limit,
                dead_peer},
            [this, &client](const Result<>& result) {
                client.told = io::now();
                const auto tunnel = std::exchange(client.dialling, nullptr);
                if (!result) {
                    client.failed = result.error();
                } else {
                    client.app = std::make_unique<App>(
                        std::make_unique<tunnel::curvecp::SessionTunnel>(
                            tunnel->hand_over(), server_desk.vault.key, vault::KeySlot{}),
                        kUp, kDown);
                }
            });
        client.tunnel = client.dialling;
        client.dialling->start();
        run_for({});
        return client;
    }
    Client& dial() { return dial(home); }
    /// A client that both sides know.
    Client& connect() {
        auto& client = dial();
        REQUIRE(until(std::chrono::seconds(10), [&] { return client.app && !served.empty(); }));
        run_for(std::chrono::seconds(1));  // all that there is to acknowledge is
        return client;
    }

    // ---- time ----

    [[nodiscard]] Duration elapsed() const { return io::now() - begin; }
    void run_for(Duration time) {
        (void)until(time, [] { return false; });
    }
    void run_to(Duration since_begin) { run_for(begin + since_begin - io::now()); }
    /// Runs until it holds, for `limit` at most. True: it does.
    [[nodiscard]] bool until(Duration limit, const std::function<bool()>& holds) {
        const Instant last = io::now() + limit;
        for (;;) {
            settle();
            if (holds()) return true;
            Deadline next = network.next();
            for (const Deadline& other : {next_timer(), server_desk.next(), client_desk.next()}) {
                if (other && (!next || *other < *next)) next = other;
            }
            if (!next || *next > last) break;
            set_time(*next);
            network.deliver(*next);
        }
        set_time(last);
        settle();
        return holds();
    }

  private:
    struct Visitor final : tunnel::Guest {
        explicit Visitor(World& of) : world(of) {}
        World& world;
        std::optional<std::string> authorise(const crypto::PublicKey&, std::string_view) override {
            return std::nullopt;
        }
        bool may_come_from(const IpAddress&) override { return world.welcome_elsewhere; }
        [[nodiscard]] Duration dead_peer() const override { return world.dead_peer; }
        [[nodiscard]] const service::WireOptions& options() const override { return world.options; }
        void established(std::unique_ptr<tunnel::Tunnel> tunnel) override {
            world.served.push_back(std::make_unique<App>(tunnel, kDown, kUp));
        }
        void refused(const Error& why) override { world.refused.push_back(why); }
    };

    std::unique_ptr<Socket> server_socket(Takes takes) {
        return std::make_unique<Socket>(*context, network, server, takes);
    }
    [[nodiscard]] tunnel::Environment environment() {
        return {context.get(),
                nullptr,
                {&server_desk.client, &keeper, &pool(), &random, &chunks, {}},
                nullptr,
                std::make_shared<guard::Admission>(guard::AdmissionLimits{}, random),
                counters};
    }
    /// All that can happen now.
    void settle() {
        bool busy = true;
        while (busy) {
            context->restart();
            busy = context->poll() != 0;
            for (Desk* desk : {&server_desk, &client_desk}) busy = desk->serve(io::now()) || busy;
        }
    }
};

}  // namespace curvegate::test
