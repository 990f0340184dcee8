#include "channel/channel.hpp"

#include "curvegate/channel.hpp"
#include "os/random.hpp"
#include "session/curve_tun.hpp"
#include "support/listening.hpp"
#include "support/loop.hpp"
#include "support/pipes.hpp"
#include "support/secrets.hpp"
#include "tunnel/curvecp/messages.hpp"
#include "vault/counter_store.hpp"
#include "vault/key_file.hpp"
#include "vault/listener.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/write.hpp>

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <set>

/// The public API, over a vault process with real key files (curvegate-vault stands beside this program).
namespace curvegate {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;
namespace fs = std::filesystem;
using test::Buffer;
using test::pattern;

// What a program may send is what each wire carries.
static_assert(kMaxMessageSize == session::curve_tun::kMaxMessageSize);
static_assert(kMaxMessageSize == tunnel::curvecp::StreamMessages::kMost);

/// A folder with keys, counters and known_hosts, and a vault that holds both roles' keys.
class Town {
  public:
    Town() {
        std::string name = (fs::temp_directory_path() / "curvegate-channel.XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        folder_ = name;
        const auto server = make_key(vault::KeyRole::server, "server.key");
        const auto client = make_key(vault::KeyRole::client, "client.key");
        const auto nobody = test::secret_number<crypto::LongTermSecret>(99);
        std::ofstream(path("known_hosts"))
            << "server curve25519 " << server << "\nalice,laptop curve25519 " << client
            << "\nimpostor curve25519 " << public_key_of(nobody)->text() << "\n";
        fs::permissions(path("known_hosts"), fs::perms::owner_read | fs::perms::owner_write);
        auto spawned =
            Vault::spawn(context, {path("server.key"), path("client.key"), path("known_hosts"), {}, {}, {}});
        INFO((spawned ? "" : spawned.error()));
        REQUIRE(spawned.has_value());
        vault = std::move(*spawned);
        client_key = *PeerKey::parse(client);
    }
    ~Town() {
        vault.reset();
        fs::remove_all(folder_);
    }
    Town(const Town&) = delete;
    Town& operator=(const Town&) = delete;

    asio::io_context context;
    std::optional<Vault> vault;
    PeerKey client_key;

    [[nodiscard]] bool until(const std::function<bool()>& holds) { return test::run_until(context, holds); }
    [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }

  private:
    std::string make_key(vault::KeyRole role, const std::string& file) {
        os::SystemRandom random;
        auto secret = crypto::LongTermSecret::random(test::pool(), random);
        const auto key = *public_key_of(*secret);
        REQUIRE(
            vault::store_key(path(file), {role, key, std::move(*secret)}, random, std::nullopt).has_value());
        REQUIRE(vault::init_counter(vault::counter_path(folder_, key), key, random).has_value());
        return key.text();
    }
    std::string folder_;
};

/// One call's result, once it has come.
template <class... Values>
struct Came {
    std::optional<std::tuple<error_code, Values...>> value;
    [[nodiscard]] bool done() const { return value.has_value(); }
    [[nodiscard]] error_code error() const { return std::get<0>(*value); }
};

using Received = Came<Message>;
using Connected = Came<Channel>;
using Sent = Came<>;

auto into(Sent& out) {
    return [&out](error_code error) { out.value.emplace(error); };
}
auto into(Received& out) {
    return [&out](error_code error, Message message) { out.value.emplace(error, std::move(message)); };
}
auto into(Connected& out) {
    return [&out](error_code error, Channel channel) { out.value.emplace(error, std::move(channel)); };
}

Received receive(Town& town, Channel& channel) {
    Received out;
    channel.async_receive(into(out));
    REQUIRE(town.until([&] { return out.done(); }));
    return out;
}
Message message_from(Town& town, Channel& channel) {
    auto got = receive(town, channel);
    REQUIRE_FALSE(got.error());
    return std::get<1>(std::move(*got.value));
}
void send(Town& town, Channel& channel, const Message& message) {
    Sent out;
    channel.async_send(message, into(out));
    REQUIRE(town.until([&] { return out.done(); }));
    REQUIRE_FALSE(out.error());
}

Wire either() {
    return GENERATE(Wire::curve_tun, Wire::curvecp);
}

Listener listen(Town& town, std::vector<std::string> allow = {}, Wire wire = Wire::curve_tun) {
    auto listener =
        Listener::listen(*town.vault, {"127.0.0.1", 0, std::move(allow), wire, "channels.example"});
    REQUIRE(listener.has_value());
    return std::move(*listener);
}
Connected connect(Town& town, std::uint16_t port, const std::string& peer = "server",
                  Wire wire = Wire::curve_tun, const std::string& name = "channels.example",
                  std::chrono::seconds timeout = 15s) {
    Connected out;
    async_connect(*town.vault, {"127.0.0.1", port, peer, timeout, wire, name}, into(out));
    REQUIRE(town.until([&] { return out.done(); }));
    return out;
}

/// Two ends that are connected to each other.
struct Line {
    Town town;
    Listener listener;
    Channel client;
    Channel server;

    explicit Line(Wire wire) : listener(listen(town, {}, wire)) {
        Connected accepted;
        listener.async_accept(into(accepted));
        auto connected = connect(town, listener.port(), "server", wire);
        REQUIRE_FALSE(connected.error());
        REQUIRE(town.until([&] { return accepted.done(); }));
        REQUIRE_FALSE(accepted.error());
        client = std::get<1>(std::move(*connected.value));
        server = std::get<1>(std::move(*accepted.value));
    }
};

TEST_CASE("messages of every size go both ways, in order, each once", "[net][channel]") {
    Line line(either());
    CHECK(line.client.peer_name() == "server");
    CHECK(line.server.peer_name() == "alice");
    CHECK(line.server.peer() == line.town.client_key);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{1'000}, kMaxMessageSize}) {
        send(line.town, line.client, pattern(size));
        CHECK(test::same(message_from(line.town, line.server), pattern(size)));
        send(line.town, line.server, pattern(size));
        CHECK(test::same(message_from(line.town, line.client), pattern(size)));
    }
}

TEST_CASE("waiting receivers are served first in, first out", "[net][channel]") {
    Line line(either());
    std::vector<std::pair<int, std::size_t>> got;
    for (int who = 0; who < 5; ++who) {
        line.server.async_receive([&got, who](error_code error, const Message& message) {
            got.emplace_back(who, error ? 999 : message.size());
        });
    }
    for (std::size_t size = 10; size < 15; ++size) send(line.town, line.client, pattern(size));
    REQUIRE(line.town.until([&] { return got.size() == 5; }));
    CHECK(got == std::vector<std::pair<int, std::size_t>>{{0, 10}, {1, 11}, {2, 12}, {3, 13}, {4, 14}});
}

TEST_CASE("a receive that is cancelled or times out eats no message", "[net][channel]") {
    Line line(either());
    Received gone;
    Received next;
    asio::cancellation_signal signal;
    SECTION("cancelled") {
        line.server.async_receive(asio::bind_cancellation_slot(signal.slot(), into(gone)));
        line.server.async_receive(into(next));
        signal.emit(asio::cancellation_type::all);
        REQUIRE(line.town.until([&] { return gone.done(); }));
        CHECK(gone.error() == asio::error::operation_aborted);
    }
    SECTION("timed out") {
        line.server.async_receive(20ms, into(gone));
        line.server.async_receive(into(next));
        REQUIRE(line.town.until([&] { return gone.done(); }));
        CHECK(gone.error() == asio::error::timed_out);
    }
    send(line.town, line.client, pattern(7));
    send(line.town, line.client, pattern(8));
    REQUIRE(line.town.until([&] { return next.done(); }));
    CHECK(std::get<1>(*next.value) == pattern(7));
    CHECK(message_from(line.town, line.server) == pattern(8));
}

TEST_CASE("a message over the limit is refused and the channel goes on", "[net][channel]") {
    Line line(either());
    Sent out;
    line.client.async_send(pattern(kMaxMessageSize + 1), into(out));
    REQUIRE(line.town.until([&] { return out.done(); }));
    CHECK(out.error() == ChannelError::message_too_long);
    CHECK(line.client.is_open());
    send(line.town, line.client, pattern(3));
    CHECK(message_from(line.town, line.server) == pattern(3));
}

TEST_CASE("close answers every call that waits, and every later one", "[net][channel]") {
    Line line(either());
    std::vector<error_code> got;
    for (int i = 0; i < 3; ++i)
        line.server.async_receive([&](error_code error, const Message&) { got.push_back(error); });
    line.server.async_receive(1h, [&](error_code error, const Message&) { got.push_back(error); });
    line.server.close();
    CHECK(got.empty());  // never from within
    REQUIRE(line.town.until([&] { return got.size() == 4; }));
    for (const auto& error : got) CHECK(error == ChannelError::closed);
    CHECK_FALSE(line.server.is_open());
    CHECK(receive(line.town, line.server).error() == ChannelError::closed);
    Sent late;
    line.server.async_send(pattern(1), into(late));
    REQUIRE(line.town.until([&] { return late.done(); }));
    CHECK(late.error() == ChannelError::closed);
    line.server.close();
}

TEST_CASE("what was sent before a close is received, then closed is", "[net][channel]") {
    Line line(either());
    for (std::size_t size = 1; size <= 3; ++size) send(line.town, line.client, pattern(size));
    line.client.close();
    for (std::size_t size = 1; size <= 3; ++size)
        CHECK(message_from(line.town, line.server) == pattern(size));
    CHECK(receive(line.town, line.server).error() == ChannelError::closed);
}

TEST_CASE("what was sent before a close is received even if we have been sending since", "[net][channel]") {
    Line line(either());
    for (std::size_t size = 1; size <= 3; ++size) send(line.town, line.client, pattern(size));
    line.client.close();
    // Two: the first makes the dead end answer with a reset, the second meets it.
    for (int i = 0; i < 2; ++i) {
        Sent out;
        line.server.async_send(pattern(10), into(out));
        REQUIRE(line.town.until([&] { return out.done(); }));
    }
    for (std::size_t size = 1; size <= 3; ++size) {
        const auto message = message_from(line.town, line.server);
        CHECK(message == pattern(size));
    }
    CHECK(receive(line.town, line.server).error() == ChannelError::closed);
}

TEST_CASE("a server that refuses us shows as closed on the first receive", "[net][channel]") {
    Town town;
    auto listener = listen(town, {"somebody-else"});
    auto connected = connect(town, listener.port());
    REQUIRE_FALSE(connected.error());  // version 1 confirms nothing
    auto channel = std::get<1>(std::move(*connected.value));
    CHECK(receive(town, channel).error() == ChannelError::closed);
}

TEST_CASE("over udp a refusal, another service's name and a wrong key are silence", "[net][channel]") {
    Town town;
    auto listener = listen(town, {"somebody-else"}, Wire::curvecp);
    auto refused = connect(town, listener.port(), "server", Wire::curvecp, "channels.example", 2s);
    REQUIRE_FALSE(refused.error());  // a Cookie came; whether the server wants us shows later
    CHECK(receive(town, std::get<1>(*refused.value)).error() == ChannelError::closed);

    auto open = listen(town, {}, Wire::curvecp);
    auto misnamed = connect(town, open.port(), "server", Wire::curvecp, "other.example", 2s);
    REQUIRE_FALSE(misnamed.error());
    CHECK(receive(town, std::get<1>(*misnamed.value)).error() == ChannelError::closed);

    CHECK(connect(town, open.port(), "impostor", Wire::curvecp, "channels.example", 2s).error() ==
          ChannelError::wrong_key);
    CHECK(connect(town, open.port(), "server", Wire::curvecp, "no..name").error() ==
          ChannelError::cannot_connect);
}

TEST_CASE("channels over udp live on when their listener is gone", "[net][channel]") {
    Line line(Wire::curvecp);
    line.listener.close();
    send(line.town, line.client, pattern(70));
    CHECK(message_from(line.town, line.server) == pattern(70));
    send(line.town, line.server, pattern(65'503));
    CHECK(message_from(line.town, line.client) == pattern(65'503));
}

TEST_CASE("a peer without a pin is named before anything is dialled", "[net][channel]") {
    Town town;
    CHECK(connect(town, 1, "nobody-knows").error() == ChannelError::no_pin);
}

TEST_CASE("a server with another key than the pinned one is not connected to", "[net][channel]") {
    Town town;
    const auto listener = listen(town);
    CHECK(connect(town, listener.port(), "impostor").error() == ChannelError::wrong_key);
}

TEST_CASE("a port where nobody listens cannot be connected to", "[net][channel]") {
    Town town;
    auto listener = listen(town);
    const auto port = listener.port();
    listener.close();
    test::run_ready(town.context);
    CHECK(connect(town, port).error() == ChannelError::cannot_connect);
}

TEST_CASE("a host that does not answer is told when the time is over", "[net][channel]") {
    Town town;
    const test::Silent silent("127.0.0.1");
    CHECK(connect(town, silent.port(), "server", Wire::curve_tun, "", 1s).error() == ChannelError::timed_out);
}

TEST_CASE("a vault that is gone is told, and the server is not blamed", "[net][channel]") {
    const Wire wire = either();
    Town town;
    const auto listener = listen(town, {}, wire);
    auto door = vault::listen_at(town.path("gone.sock"), vault::SocketMode::owner);
    REQUIRE(door.has_value());
    const auto gone = Vault::connect(town.context, town.path("gone.sock"), town.path("known_hosts"));
    REQUIRE(gone.has_value());
    door->reset();  // with it the connection, which nobody has accepted
    Connected out;
    async_connect(*gone, {"127.0.0.1", listener.port(), "server", 15s, wire, "channels.example"}, into(out));
    REQUIRE(town.until([&] { return out.done(); }));
    CHECK(out.error() == ChannelError::vault_unavailable);
    CHECK_FALSE(connect(town, listener.port(), "server", wire).error());  // by a vault that is there
}

TEST_CASE("without locked memory no channel begins, and with some again one does", "[net][channel]") {
    const Wire wire = either();
    Town town;
    const auto listener = listen(town, {}, wire);
    auto& pool = *town.vault->impl()->memory->secrets;
    test::SeededRandom random{1};
    std::vector<crypto::SharedKey> ballast;
    while (auto one = crypto::SharedKey::random(pool, random)) ballast.push_back(std::move(*one));
    CHECK(connect(town, listener.port(), "server", wire).error() == ChannelError::out_of_memory);
    ballast.clear();
    CHECK_FALSE(connect(town, listener.port(), "server", wire).error());
}

TEST_CASE("both ends of a channel whose message numbers are used up are told", "[net][channel]") {
    Town town;
    test::PipePair pipes(town.context, test::On::tcp, ~std::uint64_t{0} - 2);  // two are left
    const auto key = *crypto::PublicKey::parse(town.client_key.bytes);
    const auto over = [&](std::unique_ptr<tunnel::MessagePipe> pipe) {
        return Channel(std::make_shared<Channel::Impl>(*town.vault, std::move(pipe), key, "peer"));
    };
    auto near = over(std::move(pipes.near));
    auto far = over(std::move(pipes.far));
    std::array<Sent, 3> sends;
    for (Sent& one : sends) near.async_send(pattern(5), into(one));
    REQUIRE(town.until([&] { return sends[2].done(); }));
    CHECK_FALSE(sends[0].error());
    CHECK_FALSE(sends[1].error());
    CHECK(sends[2].error() == ChannelError::numbers_exhausted);
    CHECK_FALSE(near.is_open());
    CHECK(receive(town, near).error() == ChannelError::numbers_exhausted);
    for (int i = 0; i < 2; ++i) CHECK(message_from(town, far) == pattern(5));
    CHECK(receive(town, far).error() == ChannelError::numbers_exhausted);
    CHECK_FALSE(far.is_open());
}

TEST_CASE("accepts are served in order, a cancelled one takes no channel, and close answers them",
          "[net][channel]") {
    Town town;
    auto listener = listen(town);
    Connected gone;
    Connected first;
    Connected waiting;
    asio::cancellation_signal signal;
    listener.async_accept(asio::bind_cancellation_slot(signal.slot(), into(gone)));
    listener.async_accept(into(first));
    listener.async_accept(into(waiting));
    signal.emit(asio::cancellation_type::all);
    const auto connected = connect(town, listener.port());
    REQUIRE(town.until([&] { return gone.done() && first.done(); }));
    CHECK(gone.error() == asio::error::operation_aborted);
    CHECK_FALSE(first.error());
    CHECK_FALSE(waiting.done());
    listener.close();
    REQUIRE(town.until([&] { return waiting.done(); }));
    CHECK(waiting.error() == ChannelError::closed);
}

TEST_CASE("a sender that is not read from waits, and goes on when it is", "[net][channel]") {
    Line line(either());
    constexpr int kMessages = 400;  // 26 MB: more than the kernel's buffers take
    int sent = 0;
    for (int i = 0; i < kMessages; ++i) {
        line.client.async_send(pattern(kMaxMessageSize), [&](error_code error) {
            CHECK_FALSE(error);
            ++sent;
        });
    }
    for (int quiet = 0, last = -1; quiet < 20; quiet = sent == last ? quiet + 1 : 0, last = sent)
        line.town.context.run_for(5ms);
    CHECK(sent < kMessages);
    for (int i = 0; i < kMessages; ++i)
        REQUIRE(message_from(line.town, line.server).size() == kMaxMessageSize);
    REQUIRE(line.town.until([&] { return sent == kMessages; }));
}

TEST_CASE("sends that wait are bounded, by their bytes and by their number", "[net][channel]") {
    Line line(either());
    const auto size = static_cast<std::size_t>(GENERATE(65'503, 0));
    const auto message = pattern(size);
    std::size_t sent = 0;
    std::size_t refused = 0;
    const auto send_many = [&](std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            line.client.async_send(message, [&](error_code error) {
                CHECK((!error || error == ChannelError::too_many_sends));
                ++(error ? refused : sent);
            });
        }
    };
    std::size_t asked = 0;
    while (refused == 0) {
        send_many(512);
        asked += 512;
        test::run_ready(line.town.context);
        const std::size_t wait = asked - sent - refused;
        REQUIRE(wait <= kMaxWaitingSends);
        REQUIRE(wait * size <= kMaxWaitingBytes + kMaxMessageSize);  // the first of them is the wire's
    }
    CHECK(line.client.is_open());
    if (size == 0) return;  // a great many by now
    // What was not refused arrives, nothing else does, and then there is room again.
    const std::size_t expected = asked - refused;
    for (std::size_t i = 0; i < expected; ++i) REQUIRE(message_from(line.town, line.server).size() == size);
    REQUIRE(line.town.until([&] { return sent == expected; }));
    send(line.town, line.client, pattern(3));
    CHECK(message_from(line.town, line.server) == pattern(3));
}

/// Over a network of which nothing is known but whether the peer is silent.
class SilentPipe final : public tunnel::MessagePipe {
  public:
    bool silent = false;
    int looks = 0;

    [[nodiscard]] std::size_t most() const noexcept override { return kMaxMessageSize; }
    [[nodiscard]] std::size_t backlog() const noexcept override { return sent_; }
    [[nodiscard]] Result<> send(Bytes message) override {
        sent_ += message.size();
        return {};
    }
    void hold() override {}
    void flush() override {}
    [[nodiscard]] bool takes_more() const noexcept override { return true; }
    [[nodiscard]] bool is_delivered() override { return sent_ == 0; }
    [[nodiscard]] bool is_silent(Duration) override {
        ++looks;
        return silent;
    }
    void start() override {}
    void resume() override {}
    void close() override {}

  private:
    std::size_t sent_ = 0;
};

TEST_CASE("a channel ends when its peer acknowledges nothing, and looks only while somebody waits",
          "[net][channel]") {
    Town town;
    auto owned = std::make_unique<SilentPipe>();
    auto& pipe = *owned;
    const auto key = *public_key_of(test::secret_number<crypto::LongTermSecret>(99));
    const auto channel = std::make_shared<Channel::Impl>(*town.vault, std::move(owned), key, "peer", 20ms);
    Received got;
    channel->receive(30ms, into(got));
    REQUIRE(town.until([&] { return got.done(); }));
    CHECK(pipe.looks >= 1);
    CHECK(got.error() == asio::error::timed_out);
    CHECK(channel->open);
    town.context.restart();
    (void)town.context.run_for(20ms);
    const int looks = pipe.looks;
    (void)town.context.run_for(40ms);
    CHECK(pipe.looks == looks);

    Sent sent;
    channel->send(test::pattern(10), into(sent));
    pipe.silent = true;
    REQUIRE(town.until([&] { return sent.done(); }));
    CHECK(sent.error() == ChannelError::closed);
    CHECK_FALSE(channel->open);
}

TEST_CASE("channels that nobody accepts are bounded", "[net][channel]") {
    Town town;
    auto listener = listen(town);
    std::vector<Connected> connected(kMaxWaitingChannels + 20);
    std::vector<Received> ends(connected.size());
    std::size_t closed = 0;
    for (auto& one : connected) {
        async_connect(*town.vault, {"127.0.0.1", listener.port(), "server", 60s, Wire::curve_tun, ""},
                      into(one));
        REQUIRE(town.until([&] { return one.done(); }));
        REQUIRE_FALSE(one.error());
    }
    for (std::size_t i = 0; i < connected.size(); ++i) {
        std::get<1>(*connected[i].value).async_receive([&](error_code error, const Message&) {
            if (error) ++closed;
        });
    }
    REQUIRE(town.until([&] { return closed == connected.size() - kMaxWaitingChannels; }));
    for (std::size_t i = 0; i < kMaxWaitingChannels; ++i) {
        Connected accepted;
        listener.async_accept(into(accepted));
        REQUIRE(town.until([&] { return accepted.done(); }));
        REQUIRE_FALSE(accepted.error());
    }
}

TEST_CASE("bytes of no message close the channel with bad_message", "[net][channel]") {
    Town town;
    auto listener = listen(town);
    // A relay between the two that adds a byte of its own after the handshake.
    io::tcp::acceptor door(town.context, {asio::ip::address_v4::loopback(), 0});
    io::tcp::socket from_client(town.context);
    io::tcp::socket to_server(town.context);
    to_server.connect({asio::ip::address_v4::loopback(), listener.port()});
    bool in = false;
    door.async_accept(from_client, [&](error_code error) { in = !error; });
    Connected accepted;
    Connected connected;
    listener.async_accept(into(accepted));
    async_connect(*town.vault, {"127.0.0.1", door.local_endpoint().port(), "server", 15s}, into(connected));
    REQUIRE(town.until([&] { return in; }));
    from_client.non_blocking(true);
    to_server.non_blocking(true);
    const auto pass = [](io::tcp::socket& from, io::tcp::socket& to) {
        std::array<Byte, 4'096> buffer{};
        error_code error;
        const auto size = from.read_some(asio::buffer(buffer), error);
        if (size > 0) asio::write(to, asio::buffer(buffer, size));
    };
    REQUIRE(town.until([&] {
        pass(from_client, to_server);
        pass(to_server, from_client);
        return accepted.done() && connected.done();
    }));
    auto server = std::get<1>(std::move(*accepted.value));
    Buffer bad = {0, 40};
    const auto nonsense = pattern(40);
    bad.insert(bad.end(), nonsense.begin(), nonsense.end());
    asio::write(to_server, asio::buffer(bad));
    CHECK(receive(town, server).error() == ChannelError::bad_message);
    CHECK_FALSE(server.is_open());
}

TEST_CASE("every error of a channel has words of its own", "[net][channel]") {
    std::set<std::string> words;
    for (int code = 1; code <= static_cast<int>(ChannelError::too_many_sends); ++code)
        words.insert(make_error_code(static_cast<ChannelError>(code)).message());
    CHECK(words.size() == static_cast<std::size_t>(ChannelError::too_many_sends));
    CHECK_FALSE(words.contains("unknown error"));
}

}  // namespace
}  // namespace curvegate
