#include "vault_client/vault_client.hpp"
#include "support/loop.hpp"
#include "support/secrets.hpp"

#include <catch2/catch.hpp>

#include <map>

namespace curvegate::vault_client {
namespace {

using namespace std::chrono_literals;

/// A client with a vault at its other end that does as it is told.
struct Desk {
    explicit Desk(Duration timeout = 1h) : client(context, timeout, VaultClient::Detached::fail) {
        plug_in();
    }

    asio::io_context context;
    os::UniqueFd vault;
    std::map<int, std::vector<Result<vault::ReplyBody>>> answers;
    std::vector<std::string> lost;
    VaultClient client;  // it answers all who wait when it goes

    void plug_in() {
        auto pair = os::seqpacket_pair();
        REQUIRE(pair.has_value());
        vault = std::move(pair->first);
        client.attach(std::move(pair->second));
        client.on_lost = [this](std::string_view why) { lost.emplace_back(why); };
    }
    void ask(int who, const vault::RequestBody& body = vault::GetPublicKey{vault::KeySlot::server}) {
        client.ask(body, [this, who](Result<vault::ReplyBody> answer) {
            answers[who].push_back(std::move(answer));
        });
    }
    /// The next request as the vault sees it.
    [[nodiscard]] vault::Request take() {
        run();  // what was asked goes out at the end of the loop's turn
        vault::MessageBuffer buffer;
        const auto received = os::receive_message(vault.get(), buffer);
        REQUIRE(received.has_value());
        REQUIRE(received->has_value());
        const auto request = vault::parse_request(Bytes(buffer).first((*received)->size));
        REQUIRE(request.has_value());
        return *request;
    }
    void answer(vault::RequestId id, const vault::ReplyBody& body) {
        vault::MessageBuffer buffer;
        REQUIRE(os::send_message(vault.get(), serialise(vault::Reply{id, body}, buffer)).has_value());
    }
    void send(Bytes bytes) { REQUIRE(os::send_message(vault.get(), bytes).has_value()); }
    void run() { test::run_ready(context); }

    [[nodiscard]] bool answered(const std::vector<int>& who) {
        return test::run_until(context, [&] {
            return std::ranges::all_of(who, [&](int one) { return !answers[one].empty(); });
        });
    }
    [[nodiscard]] bool failed(int who, VaultErrc why) {
        return answers[who].size() == 1 && !answers[who][0] && answers[who][0].error().is(why);
    }
};

vault::PublicKeyIs key_reply(int number) {
    vault::PublicKeyIs out{};
    out.key[0] = static_cast<Byte>(number);
    return out;
}
int number_in(const Result<vault::ReplyBody>& answer) {
    return std::get<vault::PublicKeyIs>(answer.value()).key[0];
}

TEST_CASE("answers that come out of order reach their askers", "[net][vault_client]") {
    Desk desk;
    std::vector<vault::RequestId> ids;
    for (int who = 0; who < 5; ++who) {
        desk.ask(who);
        ids.push_back(desk.take().id);
    }
    for (const int who : {3, 0, 4, 1, 2}) desk.answer(ids[static_cast<std::size_t>(who)], key_reply(who));
    REQUIRE(desk.answered({0, 1, 2, 3, 4}));
    for (int who = 0; who < 5; ++who) {
        REQUIRE(desk.answers[who].size() == 1);
        CHECK(number_in(desk.answers[who][0]) == who);
    }
    CHECK(desk.lost.empty());
}

TEST_CASE("requests go out as they were asked", "[net][vault_client]") {
    Desk desk;
    vault::MakeVouch ask{};
    ask.server.fill(3);
    ask.client_short.fill(4);
    desk.ask(1, ask);
    const auto seen = std::get<vault::MakeVouch>(desk.take().body);
    CHECK(seen.server == ask.server);
    CHECK(seen.client_short == ask.client_short);
}

TEST_CASE("no answer is given from within ask()", "[net][vault_client]") {
    Desk desk;
    desk.ask(1);
    desk.vault.reset();
    desk.run();
    CHECK(desk.failed(1, VaultErrc::lost));
    desk.ask(2);  // nobody is there any more
    CHECK(desk.answers[2].empty());
    desk.run();
    CHECK(desk.failed(2, VaultErrc::lost));
}

TEST_CASE("a vault that ends answers all that wait with an error, and is told once", "[net][vault_client]") {
    Desk desk;
    for (int who = 0; who < 3; ++who) desk.ask(who);
    desk.vault.reset();
    REQUIRE(desk.answered({0, 1, 2}));
    for (int who = 0; who < 3; ++who) CHECK(desk.failed(who, VaultErrc::lost));
    CHECK(desk.lost == std::vector<std::string>{"the vault is gone"});
    CHECK_FALSE(desk.client.attached());
    desk.plug_in();
    desk.ask(7);
    desk.answer(desk.take().id, key_reply(7));
    REQUIRE(desk.answered({7}));
    CHECK(number_in(desk.answers[7][0]) == 7);
}

TEST_CASE("what is not the protocol ends the connection and answers all", "[net][vault_client]") {
    Desk desk;
    desk.ask(1);
    desk.ask(2);
    const auto id = desk.take().id;
    vault::MessageBuffer buffer;
    test::Buffer bytes = test::copy_of(serialise(vault::Reply{id, key_reply(1)}, buffer));
    SECTION("one byte more") {
        bytes.push_back(0);
    }
    SECTION("one byte less") {
        bytes.pop_back();
    }
    SECTION("another version") {
        bytes[0] = 2;
    }
    SECTION("a verb that does not exist") {
        bytes[1] = 9;
    }
    SECTION("a status that does not exist") {
        bytes[2] = vault::kLastStatus + 1;
    }
    SECTION("a reserved byte") {
        bytes[3] = 1;
    }
    SECTION("one byte") {
        bytes = {1};
    }
    desk.send(bytes);
    REQUIRE(desk.answered({1, 2}));
    CHECK(desk.failed(1, VaultErrc::malformed));
    CHECK(desk.failed(2, VaultErrc::malformed));
    CHECK(desk.lost.size() == 1);
    CHECK_FALSE(desk.client.attached());
}

TEST_CASE("a message longer than any reply ends the connection", "[net][vault_client]") {
    Desk desk;
    desk.ask(1);
    desk.send(test::Buffer(vault::kMaxMessageSize + 1));
    REQUIRE(desk.answered({1}));
    CHECK_FALSE(desk.answers[1][0].has_value());
    CHECK(desk.lost.size() == 1);
}

TEST_CASE("a reply of another verb than was asked ends the connection", "[net][vault_client]") {
    Desk desk;
    desk.ask(1, vault::MakeVouch{});
    SECTION("with content") {
        desk.answer(desk.take().id, key_reply(1));
    }
    SECTION("a refusal") {
        desk.answer(desk.take().id, vault::Refused{vault::Verb::open_vouch, vault::Status::vouch_is_wrong});
    }
    REQUIRE(desk.answered({1}));
    CHECK(desk.failed(1, VaultErrc::malformed));
}

TEST_CASE("an answer that nobody waits for is ignored", "[net][vault_client]") {
    Desk desk;
    desk.ask(1);
    const auto id = desk.take().id;
    desk.answer(vault::RequestId{id.value + 1'000}, key_reply(9));
    desk.answer(id, key_reply(1));
    desk.answer(id, key_reply(2));  // again
    REQUIRE(desk.answered({1}));
    desk.run();
    REQUIRE(desk.answers[1].size() == 1);
    CHECK(number_in(desk.answers[1][0]) == 1);
    CHECK(desk.client.attached());
}

TEST_CASE("an answer that comes too late is ignored, and the next one is not mistaken",
          "[net][vault_client]") {
    Desk desk(30ms);
    desk.ask(1);
    const auto late = desk.take().id;
    REQUIRE(desk.answered({1}));
    CHECK(desk.failed(1, VaultErrc::too_slow));
    CHECK(desk.client.attached());
    desk.ask(2);
    const auto next = desk.take().id;
    CHECK(next != late);
    desk.answer(late, key_reply(1));
    desk.answer(next, key_reply(2));
    REQUIRE(desk.answered({2}));
    CHECK(desk.answers[1].size() == 1);
    CHECK(number_in(desk.answers[2][0]) == 2);
}

TEST_CASE("each request has its own time limit", "[net][vault_client]") {
    Desk desk(80ms);
    desk.ask(1);
    const auto began = std::chrono::steady_clock::now();
    REQUIRE(test::run_until(desk.context, [&] { return std::chrono::steady_clock::now() - began > 50ms; }));
    desk.ask(2);
    REQUIRE(desk.answered({1}));
    CHECK(desk.failed(1, VaultErrc::too_slow));
    REQUIRE(desk.answered({2}));
    CHECK(desk.failed(2, VaultErrc::too_slow));
}

TEST_CASE("a vault that takes no requests bounds what waits for it", "[net][vault_client]") {
    Desk desk;
    for (int who = 0; who < static_cast<int>(VaultClient::kMaxPending); ++who) desk.ask(who);
    CHECK(desk.client.busy());
    desk.ask(-1);
    desk.run();
    CHECK(desk.failed(-1, VaultErrc::too_many));
    // Once it reads, all that waited go out in their order.
    int taken = 0;
    REQUIRE(test::run_until(desk.context, [&] {
        for (int i = 0; i < 100 && taken < static_cast<int>(VaultClient::kMaxPending); ++i) {
            vault::MessageBuffer buffer;
            if (::recv(desk.vault.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) <= 0) break;
            const auto request = vault::parse_request(Bytes(buffer).first(vault::kHeaderSize));
            desk.answer(request->id, key_reply(taken++ % 251));
        }
        return desk.answers.size() == VaultClient::kMaxPending + 1;
    }));
    for (int who = 0; who < taken; ++who) REQUIRE(number_in(desk.answers[who].at(0)) == who % 251);
    CHECK_FALSE(desk.client.busy());
}

// ---- hellos, which any stranger can cause ----

struct HelloDesk : Desk {
    using Desk::Desk;

    void ask_hello(int who) {
        vault::AnswerHello hello{vault::KeySlot::server, {}, {}, {}, {}};
        hello.client_short[0] = static_cast<Byte>(who);
        ask(who, hello);
    }
    /// Which hellos lie with the vault and have not been taken.
    [[nodiscard]] std::vector<int> lying() {
        run();
        std::vector<int> out;
        vault::MessageBuffer buffer;
        for (;;) {
            const auto size = ::recv(vault.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
            if (size <= 0) return out;
            const auto request = *vault::parse_request(Bytes(buffer).first(static_cast<std::size_t>(size)));
            ids.push_back(request.id);
            const auto* hello = std::get_if<vault::AnswerHello>(&request.body);
            out.push_back(hello != nullptr ? hello->client_short[0] : -1);
        }
    }
    std::vector<vault::RequestId> ids;
};
constexpr int kWindow = static_cast<int>(VaultClient::kMaxHellos);

TEST_CASE("few hellos lie with the vault, the others wait in turn", "[net][vault_client]") {
    HelloDesk desk;
    for (int who = 0; who < kWindow + 3; ++who) desk.ask_hello(who);
    auto lying = desk.lying();
    REQUIRE(lying.size() == VaultClient::kMaxHellos);
    CHECK(lying.front() == 0);
    for (int i = 0; i < 2; ++i) desk.answer(desk.ids[static_cast<std::size_t>(i)], vault::HelloAnswer{});
    REQUIRE(desk.answered({0, 1}));
    CHECK(desk.lying() == std::vector<int>{kWindow, kWindow + 1});
}

TEST_CASE("a vouch does not wait behind hellos", "[net][vault_client]") {
    HelloDesk desk;
    for (int who = 0; who < kWindow + 3; ++who) desk.ask_hello(who);
    desk.ask(200, vault::OpenVouch{vault::KeySlot::server, {}, {}, {}, {}});
    const auto lying = desk.lying();
    REQUIRE(lying.size() == VaultClient::kMaxHellos + 1);
    CHECK(lying.front() == -1);
}

TEST_CASE("hellos that the vault never answers make room for the next", "[net][vault_client]") {
    HelloDesk desk(40ms);
    for (int who = 0; who < kWindow; ++who) desk.ask_hello(who);
    REQUIRE(desk.lying().size() == VaultClient::kMaxHellos);
    REQUIRE(desk.answered({0, kWindow - 1}));
    CHECK(desk.failed(0, VaultErrc::too_slow));
    desk.ask_hello(100);
    CHECK(desk.lying() == std::vector<int>{100});
}

TEST_CASE("what waits for a vault that hangs dies with its request, and is not asked when it goes on",
          "[net][vault_client]") {
    HelloDesk desk(60ms);
    // More than the socket takes, and so many hellos that the newest go first.
    constexpr int kMany = static_cast<int>(VaultClient::kMaxPending) - 1;
    std::vector<int> all;
    for (int who = 0; who < kMany; ++who) {
        if (who % 2 == 0) {
            desk.ask(who, vault::OpenVouch{vault::KeySlot::server, {}, {}, {}, {}});
        } else {
            desk.ask_hello(who);
        }
        all.push_back(who);
    }
    REQUIRE(desk.client.busy());
    REQUIRE(desk.answered(all));
    CHECK(desk.failed(kMany - 1, VaultErrc::too_slow));
    CHECK(desk.client.waiting() == 0);
    const auto lay_in_the_socket = desk.lying().size();
    CHECK(lay_in_the_socket < static_cast<std::size_t>(kMany) / 2);
    desk.ask_hello(100);
    CHECK(desk.lying() == std::vector<int>{100});
    CHECK(desk.client.waiting() == 0);
}

TEST_CASE("what was given up while the vault was away is not asked when it comes", "[net][vault_client]") {
    asio::io_context context;
    VaultClient client(context, 40ms, VaultClient::Detached::wait);
    int given_up = 0;
    const auto count = [&](const Result<vault::ReplyBody>& reply) {
        CHECK(reply.error().is(VaultErrc::too_slow));
        ++given_up;
    };
    for (int i = 0; i < 300; ++i) {
        client.ask(vault::AnswerHello{vault::KeySlot::server, {}, {}, {}, {}}, count);
        client.ask(vault::MakeVouch{}, count);
    }
    CHECK(client.waiting() == 600);
    REQUIRE(test::run_until(context, [&] { return given_up == 600; }));
    CHECK(client.waiting() == 0);

    auto pair = os::seqpacket_pair().value();
    client.attach(std::move(pair.first));
    client.ask(vault::GetPublicKey{vault::KeySlot::server}, [](const Result<vault::ReplyBody>&) {});
    test::run_ready(context);
    vault::MessageBuffer buffer;
    const auto got = os::receive_message(pair.second.get(), buffer).value();
    REQUIRE(got.has_value());
    const auto request = vault::parse_request(Bytes(buffer).first(got->size)).value();
    CHECK(std::holds_alternative<vault::GetPublicKey>(request.body));
    CHECK(::recv(pair.second.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) < 0);
}

TEST_CASE("hellos that wait are answered with lost when the vault goes", "[net][vault_client]") {
    HelloDesk desk;
    for (int who = 0; who < kWindow + 5; ++who) desk.ask_hello(who);
    desk.vault.reset();
    REQUIRE(desk.answered({0, kWindow + 4}));
    CHECK(desk.failed(kWindow + 4, VaultErrc::lost));
    desk.plug_in();
    desk.ask_hello(100);
    CHECK(desk.lying() == std::vector<int>{100});
}

TEST_CASE("a new connection answers those who waited on the old one with lost", "[net][vault_client]") {
    Desk desk;
    desk.ask(1);
    desk.plug_in();
    desk.run();
    CHECK(desk.failed(1, VaultErrc::lost));
    desk.ask(2);
    desk.answer(desk.take().id, key_reply(2));
    REQUIRE(desk.answered({2}));
}

TEST_CASE("an asker may ask again from its answer, even when the vault is lost", "[net][vault_client]") {
    Desk desk;
    desk.client.ask(vault::GetPublicKey{vault::KeySlot::server},
                    [&](const Result<vault::ReplyBody>&) { desk.ask(2); });
    desk.vault.reset();
    REQUIRE(desk.answered({2}));
    CHECK(desk.failed(2, VaultErrc::lost));
}

TEST_CASE("a client that goes answers all who wait", "[net][vault_client]") {
    asio::io_context context;
    auto pair = os::seqpacket_pair();
    int answers = 0;
    {
        VaultClient client(context, 1h, VaultClient::Detached::fail);
        client.attach(std::move(pair->second));
        for (int i = 0; i < 3; ++i)
            client.ask(vault::GetPublicKey{vault::KeySlot::server},
                       [&](const Result<vault::ReplyBody>&) { ++answers; });
    }
    test::run_ready(context);
    CHECK(answers == 3);
}

TEST_CASE("requests wait for a connection where one will come, and are answered by it",
          "[net][vault_client]") {
    asio::io_context context;
    VaultClient client(context, 1h, VaultClient::Detached::wait);
    std::optional<Result<vault::ReplyBody>> answer;
    client.ask(vault::GetPublicKey{vault::KeySlot::server}, [&](auto reply) { answer = std::move(reply); });
    test::run_ready(context);
    CHECK_FALSE(answer.has_value());

    auto pair = os::seqpacket_pair().value();
    client.attach(std::move(pair.first));
    test::run_ready(context);
    vault::MessageBuffer buffer;
    const auto got = os::receive_message(pair.second.get(), buffer).value();
    REQUIRE(got.has_value());
    const auto request = vault::parse_request(Bytes(buffer).first(got->size)).value();
    vault::MessageBuffer out;
    REQUIRE(os::send_message(pair.second.get(),
                             serialise(vault::Reply{request.id, vault::PublicKeyIs{{7}}}, out)));
    REQUIRE(test::run_until(context, [&] { return answer.has_value(); }));
    CHECK(answer->has_value());
}

TEST_CASE("the vault tells which of two server keys is to be tried first", "[net][vault_client]") {
    Desk desk;
    CHECK(desk.client.server_slot() == vault::KeySlot::server);
    desk.ask(1, vault::AnswerHello{vault::KeySlot::server, {}, {}, {}, {}});
    desk.answer(desk.take().id, vault::OtherSlot{vault::KeySlot{4}, vault::KeySlot{5}});
    REQUIRE(desk.answered({1}));
    CHECK(std::get<vault::OtherSlot>(desk.answers[1][0].value()).slot == vault::KeySlot{4});
    CHECK(desk.client.server_slot() == vault::KeySlot{5});
}

TEST_CASE("the notice of a compromised key answers nobody, and the connection goes on",
          "[net][vault_client]") {
    Desk desk;
    std::vector<vault::KeySlot> dropped;
    desk.client.on_key_dropped = [&](vault::KeySlot slot) { dropped.push_back(slot); };
    desk.ask(1);
    const auto request = desk.take();
    desk.answer(vault::kNoticeId, vault::KeyDropped{vault::KeySlot{3}});
    desk.run();
    CHECK(dropped == std::vector{vault::KeySlot{3}});
    CHECK(desk.answers[1].empty());
    desk.answer(request.id, key_reply(1));
    REQUIRE(desk.answered({1}));
    CHECK(desk.lost.empty());
}

TEST_CASE("a request that waits for a connection gives up in time", "[net][vault_client]") {
    asio::io_context context;
    VaultClient client(context, std::chrono::milliseconds(50), VaultClient::Detached::wait);
    std::optional<Result<vault::ReplyBody>> answer;
    client.ask(vault::MakeVouch{}, [&](auto reply) { answer = std::move(reply); });
    REQUIRE(test::run_until(context, [&] { return answer.has_value(); }));
    CHECK(answer->error().is(VaultErrc::too_slow));
}

}  // namespace
}  // namespace curvegate::vault_client
