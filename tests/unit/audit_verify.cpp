#include "audit/tail.hpp"
#include "audit/verify.hpp"

#include <catch2/catch.hpp>

#include <numeric>
#include <vector>

namespace curvegate::audit {
namespace {

constexpr WallTime kAt{std::chrono::seconds(1'763'812'800)};

/// Lines with their ends.
std::vector<std::string> chain(std::size_t lines, Link last = {}) {
    std::vector<std::string> out;
    for (std::size_t i = 0; i < lines; ++i) {
        Line line = line_after(last, {.event = "e" + std::to_string(i)}, kAt);
        out.push_back(line.text + "\n");
        last = std::move(line.link);
    }
    return out;
}

std::string joined(const std::vector<std::string>& lines) {
    return std::accumulate(lines.begin(), lines.end(), std::string());
}

std::optional<Verifier::Fault> check(const std::vector<std::string>& files, Verifier verifier = {}) {
    for (const auto& file : files) {
        if (auto fault = verifier.take(file)) return fault;
        if (auto fault = verifier.end_file()) return fault;
    }
    return std::nullopt;
}

void check_fault(const std::vector<std::string>& lines, std::uint64_t line, Errc why) {
    const auto fault = check({joined(lines)});
    REQUIRE(fault);
    CHECK(fault->line == line);
    CHECK(fault->why.text() == Error(why, fault->why.detail()).text());
    CHECK(fault->why.is(why));
}

TEST_CASE("a chain is good in whatever pieces it comes", "[audit]") {
    const std::string file = joined(chain(3));
    for (std::size_t piece = 1; piece <= file.size(); ++piece) {
        Verifier verifier;
        for (std::size_t at = 0; at < file.size(); at += piece)
            REQUIRE_FALSE(verifier.take(std::string_view(file).substr(at, piece)));
        REQUIRE_FALSE(verifier.end_file());
        CHECK(verifier.summary().lines == 3);
        CHECK(verifier.summary().first.sequence == 1);
        CHECK(verifier.summary().last.sequence == 3);
        CHECK(file.ends_with(verifier.summary().last.hash + "\"}\n"));
    }
    CHECK_FALSE(check({}));
    CHECK_FALSE(check({""}));
}

TEST_CASE("any byte of a file that is changed is found in its line", "[audit]") {
    const auto lines = chain(3);
    const std::string file = joined(lines);
    for (std::size_t at = 0; at < file.size(); ++at) {
        std::string bad = file;
        bad[at] = static_cast<char>(bad[at] ^ 0x04);
        const std::size_t line = at < lines[0].size() ? 1 : at < lines[0].size() + lines[1].size() ? 2 : 3;
        CAPTURE(at);
        const auto fault = check({bad});
        REQUIRE(fault);
        CHECK(fault->line == line);
    }
}

TEST_CASE("lines left out, put in, moved or cut are found", "[audit]") {
    const auto lines = chain(4);
    check_fault({lines[0], lines[2], lines[3]}, 2, Errc::sequence_jumps);
    check_fault({lines[0], lines[1], lines[1], lines[2]}, 3, Errc::sequence_jumps);
    check_fault({lines[0], lines[2], lines[1], lines[3]}, 2, Errc::sequence_jumps);
    check_fault({lines[0], lines[1].substr(0, lines[1].size() - 1)}, 2, Errc::incomplete);
    check_fault({lines[0], lines[1].substr(0, 20)}, 2, Errc::incomplete);
    check_fault({lines[0], "\n"}, 2, Errc::bad_form);
    check_fault({lines[0], std::string(kLongestLine, 'x')}, 2, Errc::bad_form);
    check_fault({lines[0], "x" + lines[1]}, 2, Errc::bad_form);
}

TEST_CASE("a line that is whole by itself but follows another one is found", "[audit]") {
    const auto lines = chain(3);
    const Line other = line_after({1, std::string(64, 'a')}, {.event = "forged"}, kAt);
    check_fault({lines[0], other.text + "\n", lines[2]}, 2, Errc::previous_differs);
    const Line first = line_after({0, std::string(64, 'a')}, {.event = "forged"}, kAt);
    check_fault({first.text + "\n"}, 1, Errc::previous_differs);
}

TEST_CASE("a chain goes on in the next file, and may begin in the middle", "[audit]") {
    const auto lines = chain(4);
    const std::string first = lines[0] + lines[1];
    const std::string second = lines[2] + lines[3];
    CHECK_FALSE(check({first, second}));
    CHECK_FALSE(check({first, "", second}));
    CHECK_FALSE(check({second}));
    const auto swapped = check({second, first});
    REQUIRE(swapped);
    CHECK(swapped->line == 1);
    CHECK(swapped->why.is(Errc::sequence_jumps));
    const auto torn = check({first + lines[2].substr(0, 9), second});
    REQUIRE(torn);
    CHECK(torn->line == 3);
    CHECK(torn->why.is(Errc::incomplete));
}

// ---- where a writer goes on ----

TEST_CASE("a writer goes on behind the last whole line", "[audit]") {
    const auto lines = chain(3);
    const std::string file = joined(lines);
    const auto tail = read_tail(file, Window::whole_file);
    REQUIRE(tail);
    REQUIRE(tail->last);
    CHECK(tail->last->sequence == 3);
    CHECK(tail->torn == 0);
    // The same from any window that holds the last line and the end of the one before.
    for (std::size_t from = 0; from < file.size() - lines[2].size(); ++from) {
        const auto part = read_tail(std::string_view(file).substr(from), Window::end_of_it);
        REQUIRE(part);
        CHECK(part->last == tail->last);
    }
    const auto exactly = std::string_view(file).substr(file.size() - lines[2].size());
    CHECK_FALSE(read_tail(exactly, Window::end_of_it));
    CHECK(read_tail(exactly, Window::whole_file));
}

TEST_CASE("what a crash left of a line is told apart from what is none of ours", "[audit]") {
    const auto lines = chain(2);
    for (std::size_t size = 1; size < lines[1].size(); ++size) {
        for (const auto& zeros : {std::string(), std::string(4'096, '\0')}) {
            const auto tail = read_tail(lines[0] + lines[1].substr(0, size) + zeros, Window::whole_file);
            REQUIRE(tail);
            REQUIRE(tail->last);
            CHECK(tail->last->sequence == 1);
            CHECK(tail->torn == size + zeros.size());
        }
    }
    const auto first = read_tail(lines[0].substr(0, 30), Window::whole_file);
    REQUIRE(first);
    CHECK_FALSE(first->last);
    CHECK(first->torn == 30);
    const auto empty = read_tail("", Window::whole_file);
    REQUIRE(empty);
    CHECK_FALSE(empty->last);
    CHECK(read_tail(std::string(100, '\0'), Window::whole_file)->torn == 100);
    CHECK_FALSE(read_tail(lines[0] + "some words", Window::whole_file));
    CHECK_FALSE(read_tail("a file of somebody", Window::whole_file));
    CHECK_FALSE(read_tail("a file of somebody\n", Window::whole_file));
    CHECK_FALSE(read_tail(std::string(10, '\0') + "words", Window::whole_file));
}

TEST_CASE("behind a last line that was changed nothing is written", "[audit]") {
    std::string file = joined(chain(2));
    file.replace(file.find("\"e1\""), 4, "\"e7\"");
    const auto tail = read_tail(file, Window::whole_file);
    REQUIRE_FALSE(tail);
    CHECK(tail.error().is(Errc::hash_differs));
}

}  // namespace
}  // namespace curvegate::audit
