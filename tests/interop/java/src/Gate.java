import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.HashSet;
import java.util.Set;

/**
 * A way to the server that can be shut: what is connected is cut, and whoever comes is refused until it opens.
 *
 * <p>Refused by the kernel: the client over TLS may wait for its whole timeout for a server that takes it and hangs up.
 */
final class Gate implements AutoCloseable {
    private final int target;
    private final Set<Socket> open = new HashSet<>();
    private final int port;
    private ServerSocket listener;

    Gate(int target) throws IOException {
        this.target = target;
        open(0);
        port = listener.getLocalPort();
    }

    String host() {
        return "127.0.0.1:" + port;
    }

    synchronized void shut() throws IOException {
        listener.close();
        for (Socket s : open) {
            s.close();
        }
        open.clear();
    }

    synchronized void open() throws IOException {
        if (listener.isClosed()) {
            open(port);
        }
    }

    private void open(int on) throws IOException {
        ServerSocket made = new ServerSocket();
        made.setReuseAddress(true);
        made.bind(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), on));
        listener = made;
        start(() -> accept(made));
    }

    @Override
    public void close() throws IOException {
        shut();
    }

    private void accept(ServerSocket from) throws IOException {
        while (true) {
            Socket client = from.accept();
            synchronized (this) {
                if (from.isClosed()) {
                    client.close();
                    return;
                }
                Socket server = new Socket(InetAddress.getByName("127.0.0.1"), target);
                open.add(client);
                open.add(server);
                start(() -> carry(client, server));
                start(() -> carry(server, client));
            }
        }
    }

    private static void carry(Socket from, Socket to) throws IOException {
        byte[] buffer = new byte[65536];
        try (from; to) {
            from.setTcpNoDelay(true);
            InputStream in = from.getInputStream();
            OutputStream out = to.getOutputStream();
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                out.write(buffer, 0, n);
            }
        }
    }

    private interface Work {
        void run() throws IOException;
    }

    private static void start(Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (IOException e) {
                // One side has closed, so the other is closed too: this is how a cut ends.
            }
        });
        thread.setDaemon(true);
        thread.start();
    }
}
