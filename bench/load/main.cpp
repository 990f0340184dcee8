#include "common.hpp"

#include <charconv>
#include <cstdio>

/// Makes and checks the traffic of bench/run, with little CPU beside the tunnels that it goes through. Every
/// byte is compared; the first wrong one ends the program with 1. Addresses are IPv4, in numbers.
///
///   curvegate-load serve PORT                    the backend of all of these, on 127.0.0.1; it runs until it
///   is
///                                                stopped, and prints its port (0: any) on the first line
///   curvegate-load relay PORT HOST PORT [FLIP]   copies between connections to PORT and HOST PORT; spoils
///   the byte
///                                                FLIP of each connection if that is given
///   curvegate-load stream HOST PORT UP DOWN      so many bytes each way at once, over one connection
///   curvegate-load requests HOST PORT CONNECTIONS SIZE SECONDS
///                                                messages that come back, one at a time on each connection.
///                                                "ready" when the connections are open and the clock starts,
///                                                after a tenth of the time
///   curvegate-load connects HOST PORT COUNT TOGETHER
///                                                connect, a byte there and back, close; so many at once
///   curvegate-load hold HOST PORT COUNT          connections that have had a byte there and back, and rest
///
/// Each client prints one line of JSON when it is done. `requests` and `hold` then keep their connections
/// until the standard input ends.
namespace curvegate::load {
namespace {

template <class Number>
Number number_of(std::string_view text) {
    Number out{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc{} || end != text.data() + text.size()) fail("not a number: " + std::string(text));
    return out;
}

std::uint64_t positive(std::string_view text) {
    const auto number = number_of<std::uint64_t>(text);
    if (number == 0) fail("nothing to do");
    return number;
}

bool run(const std::vector<std::string_view>& args) {
    const std::string_view command = args.empty() ? "" : args[0];
    if (command == "serve" && args.size() == 2) {
        serve(args[1]);
    } else if (command == "relay" && (args.size() == 4 || args.size() == 5)) {
        const auto flip = args.size() == 5 ? std::optional(number_of<std::uint64_t>(args[4])) : std::nullopt;
        relay(args[1], address_of(args[2], args[3]), flip);
    } else if (command == "stream" && args.size() == 5) {
        stream(address_of(args[1], args[2]), number_of<std::uint64_t>(args[3]),
               number_of<std::uint64_t>(args[4]));
    } else if (command == "requests" && args.size() == 6) {
        requests(address_of(args[1], args[2]), positive(args[3]), positive(args[4]),
                 number_of<double>(args[5]));
    } else if (command == "connects" && args.size() == 5) {
        connects(address_of(args[1], args[2]), positive(args[3]), positive(args[4]));
    } else if (command == "hold" && args.size() == 4) {
        hold(address_of(args[1], args[2]), positive(args[3]));
    } else {
        return false;
    }
    return true;
}

}  // namespace
}  // namespace curvegate::load

int main(int argc, char** argv) {
    if (curvegate::load::run({argv + 1, argv + argc})) return 0;
    std::fputs(
        "usage: curvegate-load serve PORT | relay PORT HOST PORT [FLIP] | stream HOST PORT UP DOWN |\n"
        "       requests HOST PORT CONNECTIONS SIZE SECONDS | connects HOST PORT COUNT TOGETHER | hold HOST "
        "PORT COUNT\n",
        stderr);
    return 64;
}
