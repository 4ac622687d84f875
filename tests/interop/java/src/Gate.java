import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.HashSet;
import java.util.Set;

/** A way to the server that can be shut: what is connected is cut, and whoever comes is turned away until it opens. */
final class Gate implements AutoCloseable {
    private final ServerSocket listener;
    private final int target;
    private final Set<Socket> open = new HashSet<>();
    private boolean shut;

    Gate(int target) throws IOException {
        this.target = target;
        listener = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
        start(this::accept);
    }

    String host() {
        return "127.0.0.1:" + listener.getLocalPort();
    }

    synchronized void shut() throws IOException {
        shut = true;
        for (Socket s : open) {
            s.close();
        }
        open.clear();
    }

    synchronized void open() {
        shut = false;
    }

    @Override
    public void close() throws IOException {
        shut();
        listener.close();
    }

    private void accept() throws IOException {
        while (true) {
            Socket client = listener.accept();
            synchronized (this) {
                if (shut) {
                    client.close();
                    continue;
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
