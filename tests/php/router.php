<?php
// An origin that tells which method it takes a request for: as Symfony and Laravel do, where a form may override it.
function method_of_request(): string {
    if (strtoupper($_SERVER['REQUEST_METHOD']) !== 'POST') {
        return $_SERVER['REQUEST_METHOD'];
    }
    $type = $_SERVER['HTTP_CONTENT_TYPE'] ?? $_SERVER['CONTENT_TYPE'] ?? '';
    $fields = $_POST;
    if (str_contains($type, '/json') || str_contains($type, '+json')) {
        $fields = json_decode(file_get_contents('php://input'), true);
        $fields = is_array($fields) ? $fields : [];
    }
    $method = $_SERVER['HTTP_X_HTTP_METHOD_OVERRIDE'] ?? '';
    if (!$method) {
        $method = $fields['_method'] ?? $_GET['_method'] ?? 'POST';
    }
    return is_string($method) ? strtoupper(trim($method)) : 'POST';
}
header('Content-Type: application/json');
header('Cache-Control: no-store');
echo json_encode(['method' => method_of_request(), 'uri' => $_SERVER['REQUEST_URI']], JSON_INVALID_UTF8_SUBSTITUTE);
