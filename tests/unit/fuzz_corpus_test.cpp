#include "support/bytes.hpp"

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <set>

// The harnesses of fuzz/, compiled into this program under these names (tests/CMakeLists.txt).
extern "C" {
int fuzz_activation(const std::uint8_t* data, std::size_t size);
int fuzz_audit_verify(const std::uint8_t* data, std::size_t size);
int fuzz_configuration(const std::uint8_t* data, std::size_t size);
int fuzz_control_answer(const std::uint8_t* data, std::size_t size);
int fuzz_control_request(const std::uint8_t* data, std::size_t size);
int fuzz_counter_slot(const std::uint8_t* data, std::size_t size);
int fuzz_curve_tun_frames(const std::uint8_t* data, std::size_t size);
int fuzz_curvecp_client(const std::uint8_t* data, std::size_t size);
int fuzz_curvecp_message(const std::uint8_t* data, std::size_t size);
int fuzz_curvecp_packet(const std::uint8_t* data, std::size_t size);
int fuzz_curvecp_server(const std::uint8_t* data, std::size_t size);
int fuzz_daemon_channel(const std::uint8_t* data, std::size_t size);
int fuzz_escaped_text(const std::uint8_t* data, std::size_t size);
int fuzz_handshake_client(const std::uint8_t* data, std::size_t size);
int fuzz_handshake_server(const std::uint8_t* data, std::size_t size);
int fuzz_http_request(const std::uint8_t* data, std::size_t size);
int fuzz_key_file(const std::uint8_t* data, std::size_t size);
int fuzz_known_hosts(const std::uint8_t* data, std::size_t size);
int fuzz_message_cutter(const std::uint8_t* data, std::size_t size);
int fuzz_proxy_protocol(const std::uint8_t* data, std::size_t size);
int fuzz_session_open(const std::uint8_t* data, std::size_t size);
int fuzz_stream(const std::uint8_t* data, std::size_t size);
int fuzz_vault_control(const std::uint8_t* data, std::size_t size);
int fuzz_vault_protocol(const std::uint8_t* data, std::size_t size);
int fuzz_wire_packets(const std::uint8_t* data, std::size_t size);
}

namespace curvegate::test {
namespace {

namespace fs = std::filesystem;

struct Harness {
    std::string name;
    int (*run)(const std::uint8_t*, std::size_t);
};
const std::vector<Harness> kHarnesses = {{"activation", fuzz_activation},
                                         {"audit_verify", fuzz_audit_verify},
                                         {"configuration", fuzz_configuration},
                                         {"control_answer", fuzz_control_answer},
                                         {"control_request", fuzz_control_request},
                                         {"counter_slot", fuzz_counter_slot},
                                         {"curvecp_client", fuzz_curvecp_client},
                                         {"curve_tun_frames", fuzz_curve_tun_frames},
                                         {"curvecp_message", fuzz_curvecp_message},
                                         {"curvecp_packet", fuzz_curvecp_packet},
                                         {"curvecp_server", fuzz_curvecp_server},
                                         {"daemon_channel", fuzz_daemon_channel},
                                         {"escaped_text", fuzz_escaped_text},
                                         {"handshake_client", fuzz_handshake_client},
                                         {"handshake_server", fuzz_handshake_server},
                                         {"http_request", fuzz_http_request},
                                         {"key_file", fuzz_key_file},
                                         {"known_hosts", fuzz_known_hosts},
                                         {"message_cutter", fuzz_message_cutter},
                                         {"proxy_protocol", fuzz_proxy_protocol},
                                         {"session_open", fuzz_session_open},
                                         {"stream", fuzz_stream},
                                         {"vault_control", fuzz_vault_control},
                                         {"vault_protocol", fuzz_vault_protocol},
                                         {"wire_packets", fuzz_wire_packets}};

const fs::path kFuzz = fs::path(CURVEGATE_TESTS_DIR) / ".." / "fuzz";

Buffer read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// A harness aborts where something does not hold; the last line that INFO printed tells the input.
TEST_CASE("every input that a harness ever found or began with does no harm", "[fuzz]") {
    for (const auto& harness : kHarnesses) {
        std::size_t inputs = 0;
        CHECK(harness.run(nullptr, 0) == 0);
        for (const auto& entry : fs::directory_iterator(kFuzz / "corpus" / harness.name)) {
            INFO(entry.path());
            const auto input = read(entry.path());
            CHECK(harness.run(input.data(), input.size()) == 0);
            for (std::size_t size = 0; size < std::min<std::size_t>(input.size(), 64); ++size)
                CHECK(harness.run(input.data(), size) == 0);
            ++inputs;
        }
        INFO(harness.name);
        CHECK(inputs > 0);
    }
}

TEST_CASE("every harness is replayed", "[fuzz]") {
    std::set<std::string> known;
    for (const auto& harness : kHarnesses) known.insert(harness.name);
    for (const auto& entry : fs::directory_iterator(kFuzz)) {
        if (entry.path().extension() == ".cpp") CHECK(known.contains(entry.path().stem().string()));
    }
    for (const auto& entry : fs::directory_iterator(kFuzz / "corpus"))
        CHECK(known.contains(entry.path().filename().string()));
}

}  // namespace
}  // namespace curvegate::test
