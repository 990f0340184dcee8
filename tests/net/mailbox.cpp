#include "io/mailbox.hpp"
#include "support/loop.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <catch2/catch.hpp>

namespace curvegate::io {
namespace {

using namespace std::chrono_literals;

struct Got {
    int who;
    error_code error;
    int item;
    friend bool operator==(const Got&, const Got&) = default;
};

struct Box {
    asio::io_context context;
    std::shared_ptr<Mailbox<int>> mailbox = std::make_shared<Mailbox<int>>(context);
    std::vector<Got> got;

    void wait(int who, std::optional<Duration> timeout = std::nullopt) {
        mailbox->wait(timeout,
                      [this, who](error_code error, int item) { got.push_back({who, error, item}); });
    }
    void wait(int who, asio::cancellation_signal& signal) {
        mailbox->wait(std::nullopt,
                      asio::bind_cancellation_slot(signal.slot(), [this, who](error_code error, int item) {
                          got.push_back({who, error, item});
                      }));
    }
    void run() { test::run_ready(context); }
};

TEST_CASE("waiters are served in the order in which they came", "[net][mailbox]") {
    Box box;
    for (int who = 1; who <= 3; ++who) box.wait(who);
    for (int item = 10; item <= 12; ++item) box.mailbox->put(item);
    CHECK(box.got.empty());  // never from within
    box.run();
    CHECK(box.got == std::vector<Got>{{1, {}, 10}, {2, {}, 11}, {3, {}, 12}});
}

TEST_CASE("items keep their order whether they or their waiters come first", "[net][mailbox]") {
    Box box;
    box.mailbox->put(10);
    box.wait(1);
    box.wait(2);
    box.run();
    box.mailbox->put(11);
    box.mailbox->put(12);
    box.run();
    box.wait(3);
    box.run();
    CHECK(box.got == std::vector<Got>{{1, {}, 10}, {2, {}, 11}, {3, {}, 12}});
    CHECK(box.mailbox->size() == 0);
}

TEST_CASE("a wait that is cancelled takes no item", "[net][mailbox]") {
    Box box;
    asio::cancellation_signal signal;
    box.wait(1, signal);
    box.wait(2);
    SECTION("before an item came") {
        signal.emit(asio::cancellation_type::all);
        box.run();
        box.mailbox->put(10);
    }
    SECTION("after an item came and before it was given away") {
        box.mailbox->put(10);
        signal.emit(asio::cancellation_type::all);
    }
    box.run();
    REQUIRE(box.got.size() == 2);
    std::ranges::sort(box.got, {}, &Got::who);
    CHECK(box.got == std::vector<Got>{{1, asio::error::operation_aborted, 0}, {2, {}, 10}});
}

TEST_CASE("cancelling a wait that was served does nothing", "[net][mailbox]") {
    Box box;
    asio::cancellation_signal signal;
    box.wait(1, signal);
    box.mailbox->put(10);
    box.run();
    box.wait(2);
    signal.emit(asio::cancellation_type::all);
    box.mailbox->put(11);
    box.run();
    CHECK(box.got == std::vector<Got>{{1, {}, 10}, {2, {}, 11}});
}

TEST_CASE("a wait that is cancelled again and again ends once", "[net][mailbox]") {
    Box box;
    asio::cancellation_signal signal;
    box.wait(1, signal);
    for (int i = 0; i < 3; ++i) signal.emit(asio::cancellation_type::all);
    box.run();
    CHECK(box.got == std::vector<Got>{{1, asio::error::operation_aborted, 0}});
}

TEST_CASE("a wait that timed out takes no item", "[net][mailbox]") {
    Box box;
    box.wait(1, 1ms);
    box.wait(2, 1h);
    REQUIRE(test::run_until(box.context, [&] { return box.got.size() == 1; }));
    CHECK(box.got[0] == Got{1, asio::error::timed_out, 0});
    box.mailbox->put(10);
    box.run();
    REQUIRE(box.got.size() == 2);
    CHECK(box.got[1] == Got{2, {}, 10});
}

TEST_CASE("a timer that was still running when the item came does nothing", "[net][mailbox]") {
    Box box;
    box.wait(1, 1ms);
    box.mailbox->put(10);
    box.run();
    box.wait(2, 50ms);
    REQUIRE(test::run_until(box.context, [&] { return box.got.size() == 2; }));
    CHECK(box.got == std::vector<Got>{{1, {}, 10}, {2, asio::error::timed_out, 0}});
}

TEST_CASE("close delivers what is there and answers all who wait, then and later", "[net][mailbox]") {
    Box box;
    box.mailbox->put(10);
    box.mailbox->put(11);
    box.mailbox->close(asio::error::eof);
    for (int who = 1; who <= 4; ++who) box.wait(who);
    box.run();
    CHECK(box.got ==
          std::vector<Got>{{1, {}, 10}, {2, {}, 11}, {3, asio::error::eof, 0}, {4, asio::error::eof, 0}});
    box.wait(5);
    box.run();
    CHECK(box.got.back() == Got{5, asio::error::eof, 0});
}

TEST_CASE("close answers those who wait already", "[net][mailbox]") {
    Box box;
    box.wait(1);
    box.wait(2, 1h);
    box.mailbox->close(asio::error::eof);
    box.mailbox->close(asio::error::no_data);  // the first reason stands
    box.run();
    CHECK(box.got == std::vector<Got>{{1, asio::error::eof, 0}, {2, asio::error::eof, 0}});
}

TEST_CASE("closing at once loses what is there", "[net][mailbox]") {
    Box box;
    box.mailbox->put(10);
    box.mailbox->close_at_once(asio::error::eof);
    box.wait(1);
    box.run();
    CHECK(box.got == std::vector<Got>{{1, asio::error::eof, 0}});
}

TEST_CASE("a waiter that comes back from its handler stands at the end of the queue", "[net][mailbox]") {
    Box box;
    box.mailbox->wait(std::nullopt, [&](error_code error, int item) {
        box.got.push_back({1, error, item});
        box.wait(3);
    });
    box.wait(2);
    for (int item = 10; item <= 12; ++item) box.mailbox->put(item);
    box.run();
    CHECK(box.got == std::vector<Got>{{1, {}, 10}, {2, {}, 11}, {3, {}, 12}});
}

TEST_CASE("a mailbox may go while somebody is about to be served", "[net][mailbox]") {
    Box box;
    box.wait(1);
    box.mailbox->put(10);
    box.mailbox.reset();
    box.run();
    CHECK(box.got == std::vector<Got>{{1, {}, 10}});
}

}  // namespace
}  // namespace curvegate::io
