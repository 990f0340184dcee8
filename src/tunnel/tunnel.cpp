#include "tunnel/tunnel.hpp"

#include "tunnel/message_datagrams.hpp"

namespace curvegate::tunnel {

std::unique_ptr<DatagramPipe> Tunnel::datagrams() {
    return std::make_unique<MessageDatagrams>(messages());
}

}  // namespace curvegate::tunnel
