#include "log/log.hpp"

#include "os/outlet.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <catch2/catch.hpp>

#include <array>
#include <csignal>

namespace curvegate::log {
namespace {

struct Pipe {
    os::UniqueFd out;
    os::UniqueFd in;
    Pipe() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        out.reset(ends[0]);
        in.reset(ends[1]);
        REQUIRE(::fcntl(out.get(), F_SETFL, O_NONBLOCK) == 0);  // the reading end alone
        REQUIRE(::fcntl(in.get(), F_SETPIPE_SZ, 4'096) == 4'096);
    }
    [[nodiscard]] std::string read() const {
        std::string text;
        std::array<char, 4'096> part{};
        for (ssize_t got = 0; (got = ::read(out.get(), part.data(), part.size())) > 0;)
            text.append(part.data(), static_cast<std::size_t>(got));
        return text;
    }
};

// C1 controls, a line separator, what turns the direction of writing, what is not seen, a byte that is no
// UTF-8, and letters.
const std::string kHostile = "a\n\x1b[2J\xc2\x9b\xe2\x80\xa8\xe2\x80\xae\xe2\x80\x8b\xff\"\\ \xc3\xa9";
const std::string kEscaped = R"("a\u000a\u001b[2J\u009b\u2028\u202e\u200b)"
                             "\xef\xbf\xbd"
                             R"(\"\\ )"
                             "\xc3\xa9\"";

TEST_CASE("whatever a field holds, a line of the log is one line of UTF-8", "[log]") {
    const Pipe pipe;
    std::string tapped;
    configure(Level::info, Format::text, Head::priority, pipe.in.get());
    tap([&](const std::string& line) { tapped = line; });
    event(Level::info, "word", {{"name", kHostile}, {"plain", "caf\xc3\xa9"}, {"raw", "\x9b"}, {"none", ""}});
    tap(nullptr);
    CHECK(pipe.read() ==
          "<6>info word name=" + kEscaped + " plain=caf\xc3\xa9 raw=\"\xef\xbf\xbd\" none=\"\"\n");
    CHECK(tapped.contains(R"("name":)" + kEscaped));
    configure(Level::info, Format::json, Head::priority, pipe.in.get());
    event(Level::info, "word", {{"name", kHostile}});
    CHECK(pipe.read() == R"(<6>{"level":"info","event":"word","name":)" + kEscaped + "}\n");
    configure(Level::error, Format::text, Head::time, STDERR_FILENO);
}

TEST_CASE("the fields of a line that is left out are not made", "[log]") {
    const Pipe pipe;
    configure(Level::warning, Format::text, Head::priority, pipe.in.get());
    int made = 0;
    const auto fields = [&made] { return Fields{{"number", ++made}}; };
    limited(Level::info, "nobody-wants-this", fields);
    CHECK(made == 0);

    constexpr int kBurst = 50;
    while (made < kBurst) limited(Level::warning, "flood", fields);
    constexpr int kMore = 10'000;  // far more than the bucket gets back meanwhile: ten a second
    for (int i = 0; i < kMore; ++i) limited(Level::warning, "flood", fields);
    CHECK(made < kMore / 2);
    std::string text = pipe.read();
    CHECK(text.starts_with("<4>warning flood number=1\n<4>warning flood number=2\n"));

    tap([&](const std::string& line) { text = line; });  // gets lines of every level
    limited(Level::info, "nobody-wanted-this", fields);
    tap(nullptr);
    CHECK(text.ends_with(R"("event":"nobody-wanted-this","number":)" + std::to_string(made) + "}"));
    configure(Level::error, Format::text, Head::time, STDERR_FILENO);
}

TEST_CASE("a reader who reads again is told how many lines are lost", "[log]") {
    const auto format = GENERATE(Format::text, Format::json);
    const Pipe pipe;
    configure(Level::info, format, Head::priority, pipe.in.get());
    constexpr int kLines = 100;  // of a hundred bytes and more: the pipe holds 4,096
    for (int i = 0; i < kLines; ++i) event(Level::info, "word", {{"name", std::string(100, 'x')}});
    const std::string first = pipe.read();
    const auto came = std::ranges::count(first, '\n');
    REQUIRE(came > 0);
    REQUIRE(came < kLines);
    CHECK(first.ends_with('\n'));
    event(Level::info, "after");
    const std::string lost = std::to_string(kLines - came);
    CHECK(pipe.read() == (format == Format::text
                              ? "<4>warning log_lines_lost count=" + lost + "\n<6>info after\n"
                              : R"(<4>{"level":"warning","event":"log_lines_lost","count":)" + lost +
                                    "}\n<6>{\"level\":\"info\",\"event\":\"after\"}\n"));
    event(Level::info, "last");
    CHECK_FALSE(pipe.read().contains("log_lines_lost"));
    configure(Level::error, Format::text, Head::time, STDERR_FILENO);
}

TEST_CASE("a line that does not fit a socket whole goes on before the next one", "[log]") {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const os::UniqueFd reader(ends[0]);
    const os::UniqueFd writer(ends[1]);
    os::Outlet outlet(writer.get());
    const std::string longest(std::size_t{4} << 20, 'x');
    CHECK(outlet.write(longest + "\n"));
    CHECK_FALSE(outlet.write("left out\n"));
    std::string got;
    std::array<char, 65'536> part{};
    while (!got.ends_with("last\n")) {
        const ssize_t size = ::recv(reader.get(), part.data(), part.size(), MSG_DONTWAIT);
        if (size > 0) got.append(part.data(), static_cast<std::size_t>(size));
        if (size < 0 && got.size() < longest.size() + 1) (void)outlet.write("");
        if (size < 0 && got.size() == longest.size() + 1) REQUIRE(outlet.write("last\n"));
    }
    CHECK(got == longest + "\nlast\n");
}

}  // namespace
}  // namespace curvegate::log
