#include "os/socket.hpp"
#include "support/descriptors.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace curvegate::os {
namespace {

TEST_CASE("a message whose descriptor finds no room comes without it and says so", "[os]") {
    const auto pair = seqpacket_pair();
    REQUIRE(pair);
    const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const ByteArray<3> sent{1, 2, 3};
    ByteArray<8> buffer{};
    REQUIRE(send_message(pair->first.get(), sent, file.get()));
    REQUIRE(send_message(pair->first.get(), sent, file.get()));
    {
        const auto got =
            test::without_descriptors([&] { return receive_message(pair->second.get(), buffer); });
        REQUIRE(got);
        REQUIRE(*got);
        CHECK((*got)->size == sent.size());
        CHECK((*got)->fd_lost);
        CHECK_FALSE((*got)->fd);
    }
    const auto got = receive_message(pair->second.get(), buffer);
    REQUIRE(got);
    CHECK_FALSE((*got)->fd_lost);
    CHECK((*got)->fd);
}

TEST_CASE("a message that is too long is refused and not cut", "[os]") {
    const auto pair = seqpacket_pair();
    REQUIRE(pair);
    ByteArray<2> small{};
    REQUIRE(send_message(pair->first.get(), ByteArray<3>{1, 2, 3}));
    CHECK_FALSE(receive_message(pair->second.get(), small));
}

TEST_CASE("a copy that cannot be made is an error, and a copy of nothing is nothing", "[os]") {
    const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK(copy_of(file));
    const auto nothing = copy_of(UniqueFd());
    REQUIRE(nothing);
    CHECK_FALSE(*nothing);
    CHECK_FALSE(test::without_descriptors([&] { return copy_of(file); }));
}

}  // namespace
}  // namespace curvegate::os
