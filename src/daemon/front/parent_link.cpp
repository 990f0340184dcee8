#include "daemon/front/parent_link.hpp"

namespace curvegate::daemon::front {

ParentLink::ParentLink(asio::io_context& context, os::UniqueFd channel) : channel_(context) {
    error_code error;
    channel_.assign(asio::generic::seq_packet_protocol(AF_UNIX, 0), channel.release(), error);
    channel_.non_blocking(true, error);
}

void ParentLink::listen(HearFn hear, std::function<void()> gone) {
    hear_ = std::move(hear);
    gone_ = std::move(gone);
    wait();
}

void ParentLink::send(const ToParent& message) {
    (void)os::send_message(channel_.native_handle(), serialise(message));
}

void ParentLink::wait() {
    channel_.async_wait(asio::socket_base::wait_read, [this](error_code error) {
        if (!error) read();
    });
}

void ParentLink::read() {
    ByteArray<kMaxChannelMessage> buffer{};
    while (true) {
        auto received = os::receive_message(channel_.native_handle(), buffer);
        if (received && !*received) return wait();
        if (!received || (*received)->size == 0) return gone_();
        // What does not parse is left out, with its descriptor.
        if (auto message = parse_to_front(Bytes(buffer).first((*received)->size)))
            hear_(std::move(*message), std::move((*received)->fd));
    }
}

}  // namespace curvegate::daemon::front
