#include "guard/hello_queue.hpp"

#include "support/bytes.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace curvegate::guard {
namespace {

using namespace std::chrono_literals;

using HelloQueue = guard::HelloQueue<std::uint32_t>;

const Instant kStart = Instant{} + 1'000h;

Path from(const std::string& address, std::uint16_t port = 4'433) {
    return {{*IpAddress::parse(address), port}, IpAddress::from_v4(ByteArray<4>{10, 0, 0, 1})};
}

/// A queue under virtual time. Each Hello carries a number of its own.
struct Desk {
    explicit Desk(std::size_t places = HelloQueue::kPlaces) : queue(random, places) {}

    bool push(const std::string& address) {
        const auto crowded_out = queue.drops().crowded_out;
        queue.push(from(address), next++, now);
        return queue.drops().crowded_out == crowded_out;
    }
    void push_many(const std::string& address, int count) {
        for (int i = 0; i < count; ++i) push(address);
    }
    /// The number of the next Hello, or -1.
    long pop() {
        const auto hello = queue.pop(now);
        return hello ? hello->packet : -1L;
    }
    std::string pop_source() {
        const auto hello = queue.pop(now);
        return hello ? hello->path.peer.address.ip.text() : "";
    }

    test::SeededRandom random{5};
    HelloQueue queue;
    Instant now = kStart;
    std::uint32_t next = 0;
};

TEST_CASE("a Hello comes out as it went in", "[net][hello-queue]") {
    Desk desk;
    constexpr std::uint32_t packet = 0x01020304;
    CHECK_FALSE(desk.queue.pop(desk.now).has_value());
    desk.queue.push(from("192.0.2.1", 77), packet, desk.now);
    CHECK(desk.queue.drops().crowded_out == 0);
    CHECK(desk.queue.size() == 1);
    const auto hello = desk.queue.pop(desk.now + 1s);
    REQUIRE(hello.has_value());
    CHECK(hello->path == from("192.0.2.1", 77));
    CHECK(hello->packet == packet);
    CHECK(hello->arrived == desk.now);
    CHECK(desk.queue.size() == 0);
    CHECK_FALSE(desk.queue.pop(desk.now).has_value());
}

TEST_CASE("networks are served in turn, of each the newest Hello first", "[net][hello-queue]") {
    Desk desk;
    desk.push_many("192.0.2.1", 3);      // 0 to 2
    desk.push_many("198.51.100.1", 2);   // 3 and 4
    desk.push_many("2001:db8:1::1", 1);  // 5
    std::vector<long> order;
    for (int i = 0; i < 6; ++i) order.push_back(desk.pop());
    // Which network begins is the hash's affair.
    std::vector<long> first(order.begin(), order.begin() + 3);
    std::ranges::sort(first);
    CHECK(first == std::vector<long>{2, 4, 5});
    std::vector<long> second(order.begin() + 3, order.begin() + 5);
    std::ranges::sort(second);
    CHECK(second == std::vector<long>{1, 3});
    CHECK(order[5] == 0);
    CHECK(desk.pop() == -1);
}

TEST_CASE("a network is a /24 or a /48", "[net][hello-queue]") {
    const auto are_one = [](const std::string& a, const std::string& b) {
        Desk desk(3);
        desk.push(a);
        desk.push(b);
        desk.push_many("203.0.113.1", 2);  // the second costs `a` its place if `b` is of its network
        for (int i = 0; i < 3; ++i) {
            if (desk.pop_source() == a) return false;
        }
        return true;
    };
    CHECK(are_one("192.0.2.1", "192.0.2.254"));
    CHECK_FALSE(are_one("192.0.2.1", "192.0.3.1"));
    CHECK(are_one("2001:db8:1::1", "2001:db8:1:ffff::2"));
    CHECK_FALSE(are_one("2001:db8:1::1", "2001:db8:2::1"));
}

TEST_CASE("an honest client among four flooding networks is served within five", "[net][hello-queue]") {
    for (const std::string honest : {"203.0.113.77", "2001:db8:77::1"}) {
        Desk desk;
        const auto flood = [&](int each) {
            for (int i = 0; i < each; ++i) {
                for (int network = 1; network <= 4; ++network)
                    desk.push("10.0." + std::to_string(network) + "." + std::to_string(i % 250));
            }
        };
        flood(1'000);
        CHECK(desk.queue.size() == HelloQueue::kPlaces);
        for (int round = 0; round < 20; ++round) {
            desk.push(honest);
            flood(100);  // before we get to it
            std::vector<std::string> served;
            for (int i = 0; i < 5; ++i) served.push_back(desk.pop_source());
            INFO(round);
            CHECK(std::ranges::count(served, honest) == 1);
            desk.now += 10ms;
        }
    }
}

TEST_CASE("a single flooding network takes no other's place", "[net][hello-queue]") {
    Desk desk(64);
    for (int i = 1; i <= 20; ++i) CHECK(desk.push("198.51." + std::to_string(i) + ".1"));
    for (int i = 0; i < 5'000; ++i) desk.push("192.0.2." + std::to_string(i % 250));
    CHECK(desk.queue.size() == 64);
    CHECK(desk.queue.drops().crowded_out == 20 + 5'000 - 64);
    std::map<bool, int> served;  // of the flood or not
    while (true) {
        const auto source = desk.pop_source();
        if (source.empty()) break;
        ++served[source.starts_with("192.0.2.")];
    }
    CHECK(served[false] == 20);
    CHECK(served[true] == 44);
}

TEST_CASE("the oldest of the fullest network goes, and only when there is no place", "[net][hello-queue]") {
    Desk desk(8);
    desk.push_many("192.0.2.1", 5);     // 0 to 4
    desk.push_many("198.51.100.1", 3);  // 5 to 7
    CHECK(desk.queue.drops().crowded_out == 0);
    CHECK_FALSE(desk.push("203.0.113.1"));  // 8: for 0
    CHECK_FALSE(desk.push("192.0.2.1"));    // 9: its own network is the fullest, so for 1
    std::vector<long> left;
    for (int i = 0; i < 8; ++i) left.push_back(desk.pop());
    std::ranges::sort(left);
    CHECK(left == std::vector<long>{2, 3, 4, 5, 6, 7, 8, 9});
    CHECK(desk.queue.drops().crowded_out == 2);
    CHECK(desk.push("192.0.2.1"));
}

TEST_CASE("where none is fuller, a newcomer's own network gives way", "[net][hello-queue]") {
    Desk desk(4);
    desk.push_many("192.0.2.1", 2);     // 0 and 1
    desk.push_many("198.51.100.1", 2);  // 2 and 3
    desk.push("198.51.100.1");          // 4, for 2
    desk.push("192.0.2.1");             // 5, for 0
    std::vector<long> left;
    for (int i = 0; i < 4; ++i) left.push_back(desk.pop());
    std::ranges::sort(left);
    CHECK(left == std::vector<long>{1, 3, 4, 5});
}

TEST_CASE("a queue of one place keeps the newest", "[net][hello-queue]") {
    Desk desk(1);
    desk.push("192.0.2.1");
    desk.push("198.51.100.1");
    desk.push("198.51.100.1");
    CHECK(desk.pop() == 2);
    CHECK(desk.pop() == -1);
}

TEST_CASE("who has waited for more than two seconds has asked again", "[net][hello-queue]") {
    Desk desk;
    desk.push("192.0.2.1");     // 0
    desk.push("198.51.100.1");  // 1
    desk.now += 500ms;
    desk.push("192.0.2.1");  // 2
    desk.now = kStart + HelloQueue::kPatience + 1ms;
    CHECK(desk.pop() == 2);
    CHECK(desk.pop() == -1);
    CHECK(desk.queue.drops().too_late == 2);
    CHECK(desk.queue.drops().crowded_out == 0);
    CHECK_FALSE(desk.queue.under_load(desk.now));

    desk.push("192.0.2.1");
    desk.now += HelloQueue::kPatience;  // still good
    CHECK(desk.pop() == 3);
}

TEST_CASE("memory stays what it was, whatever comes", "[net][hello-queue]") {
    Desk desk;
    std::size_t taken_out = 0;
    for (int i = 0; i < 200'000; ++i) {
        const auto bits = desk.random.next();
        desk.push("10." + std::to_string(bits % 8) + "." + std::to_string(bits / 8 % 32) + ".1");
        if (bits % 3 == 0 && desk.pop() >= 0) ++taken_out;
        desk.now += 100us;
        REQUIRE(desk.queue.size() <= HelloQueue::kPlaces);
    }
    while (desk.pop() >= 0) ++taken_out;
    CHECK(desk.queue.size() == 0);
    const auto& drops = desk.queue.drops();
    CHECK(taken_out + drops.crowded_out + drops.too_late == 200'000);
}

TEST_CASE("load lasts for a second after a Hello had to go", "[net][hello-queue]") {
    Desk desk(8);
    desk.push_many("192.0.2.1", 8);
    CHECK_FALSE(desk.queue.under_load(desk.now));
    desk.push("192.0.2.1");
    CHECK(desk.queue.under_load(desk.now));
    desk.now += 999ms;
    CHECK(desk.queue.under_load(desk.now));
    desk.push("192.0.2.1");
    desk.now += 999ms;
    CHECK(desk.queue.under_load(desk.now));
    desk.now += 1ms;
    CHECK_FALSE(desk.queue.under_load(desk.now));
}

TEST_CASE("answers are rationed under load and not before", "[net][hello-queue]") {
    Desk desk(8);
    const auto answers = [&](int tries) {
        int out = 0;
        for (int i = 0; i < tries; ++i) out += desk.queue.allowed(desk.now) ? 1 : 0;
        return out;
    };
    CHECK(answers(10'000) == 10'000);
    desk.push_many("192.0.2.1", 9);
    CHECK(answers(10'000) == 32);  // all that may come in a row
    CHECK(answers(10'000) == 0);
    int answered = 0;
    for (int i = 0; i < 1'000; ++i) {
        desk.now += 1ms;
        desk.push("192.0.2.1");
        answered += answers(10);
    }
    CHECK(answered >= HelloQueue::kAnswersUnderLoad - 1);
    CHECK(answered <= HelloQueue::kAnswersUnderLoad);
    desk.now += 1s;
    CHECK(answers(10'000) == 10'000);
}

// Two networks that the hash lays together share a turn: one that floods would keep the other waiting for
// ever.
TEST_CASE("the hash's key changes, so networks that fall together do not stay together",
          "[net][hello-queue]") {
    struct Counting final : RandomSource {
        void fill(MutableBytes out) override {
            ++keys;
            std::ranges::fill(out, static_cast<Byte>(keys));
        }
        int keys = 0;
    };
    Counting random;
    HelloQueue queue(random, 8);
    constexpr std::uint32_t packet = 7;
    queue.push(from("192.0.2.1"), packet, kStart);
    CHECK(random.keys == 1);
    queue.push(from("192.0.2.1"), packet, kStart + HelloQueue::kKeyLasts - 1ns);
    CHECK(random.keys == 1);
    queue.push(from("198.51.100.1"), packet, kStart + HelloQueue::kKeyLasts);
    CHECK(random.keys == 2);
    CHECK(queue.drops().crowded_out == 0);
    // What waited before the change comes out all the same.
    for (int i = 0; i < 3; ++i) CHECK(queue.pop(kStart + HelloQueue::kKeyLasts).has_value());
    CHECK(queue.size() == 0);
}

}  // namespace
}  // namespace curvegate::guard
